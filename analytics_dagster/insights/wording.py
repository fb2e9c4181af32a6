"""Verdicts in words: sentences of the check, the Markdown table of the UI, the lines of the demo. Pure.

sentence = describe_deploy(row, items)
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from analytics_dagster.insights.deploy_impact import Row
from analytics_dagster.insights.verdicts import Verdict

_REVISION_SHOWN = 12
_TITLE_SHOWN = 60

_HEADINGS = ("finished (UTC)", "environment", "revision", "verdict", "errors an hour, before → after", "new items")


def describe_deploy(row: Row, items: Sequence[Row]) -> str:
    """Return a sentence on a deploy that is worse, with the busiest of the items that it is suspected of."""
    sentence = (
        f"Revision {short_revision(row)} in {row['environment']} of project {row['project_id']}, finished at "
        f"{format_time(row['finish_time'])} UTC, has {format_ratio(row)} the errors of the two hours before it"
    )
    named = [f"{shorten(item['title'])} ({item['occurrences']:,})" for item in items]
    return f"{sentence}; its busiest new items: {', '.join(named)}." if named else f"{sentence}; no item is new."


def format_verdict(row: Row) -> str:
    """Return the verdict of a row, with its ratio if it says that something changed."""
    verdict: str = row["verdict"]
    if row["ratio"] is not None and verdict in {Verdict.WORSE, Verdict.BETTER}:
        verdict += f", {format_ratio(row)}"
    return f"{verdict} (provisional)" if row["provisional"] and row["minutes"] else verdict


def format_ratio(row: Row) -> str:
    """Return the ratio of a row with its interval, such as `2.7 times (2.1 to 3.4)`."""
    if row["ratio"] is None:
        return "more than none of"
    ends = [f"{end:.2g}" for end in (row["ratio_low"], row["ratio_high"]) if end is not None]
    return f"{row['ratio']:.2g} times" + (f" ({' to '.join(ends)})" if len(ends) > 1 else "")


def format_table(rows: Sequence[Row], items: Mapping[int, Sequence[Row]]) -> str:
    """Return a Markdown table of deploys, with the items that each is suspected of."""
    lines = [_HEADINGS, ["---"] * len(_HEADINGS)]
    for row in rows:
        named = [f"{shorten(item['title'])} ({item['occurrences']:,})" for item in items.get(row["id"], ())]
        marks = " ↩" * row["is_rollback"]
        lines.append([
            _unbroken(f"{row['finish_time']:%b %d, %H:%M}"),
            _escape(row["environment"]),
            f"`{_escape(short_revision(row))}`{marks}",
            _emphasize(row),
            _unbroken(f"{_per_hour(row['per_minute_before'])} → {_per_hour(latest_rate(row))}"),
            _escape(", ".join(named)),
        ])  # fmt: skip
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def format_lines(rows: Sequence[Row]) -> str:
    """Return a table of deploys for a terminal."""
    lines = [("deploy", "environment", "finished (UTC)", "verdict")]
    lines += [
        (
            f"{short_revision(row)}{' (rollback)' * row['is_rollback']}",
            str(row["environment"]),
            format_time(row["finish_time"]),
            format_verdict(row),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=False)), line[3]]) for line in lines
    )


def latest_rate(row: Row) -> float | None:
    """Return the occurrences per minute after a deploy, over the longer of the times that are complete."""
    rates: list[float | None] = [row["per_minute_after_60"], row["per_minute_after_20"]]
    return next((rate for rate in rates if rate is not None), None)


def short_revision(row: Row) -> str:
    """Return the beginning of a revision."""
    return str(row["revision"])[:_REVISION_SHOWN]


def format_time(moment: datetime) -> str:
    """Return a time to the minute."""
    return f"{moment:%Y-%m-%d %H:%M}"


def shorten(title: str, longest: int = _TITLE_SHOWN) -> str:
    """Return a title on one line, cut if it is long."""
    line = " ".join(title.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _unbroken(text: str) -> str:
    """Return a text that a narrow column does not break."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _emphasize(row: Row) -> str:
    text = format_verdict(row)
    return f"**{text}**" if row["verdict"] == Verdict.WORSE else text


def _per_hour(rate: float | None) -> str:
    return "?" if rate is None else f"{rate * 60:,.0f}"


def _escape(text: str) -> str:
    """Return a text that Markdown shows as it is within a cell of a table."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]<>()#+-!|~$" else character for character in text)
