"""Generated documents: the README's tables, and docs/questions.md.

`python -m analytics_dagster_tests.support.documents` updates them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic_core import PydanticUndefined

from analytics_dagster.catalog import RESOURCES, Resource
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.insights.questions import QUESTIONS
from analytics_dagster.insights.statements import read_text
from analytics_dagster_tests.support.answers import sandbox_answers
from analytics_dagster_tests.support.project import a_project

README = Path(__file__).resolve().parents[2] / "README.md"
QUESTIONS_DOCUMENT = README.parent / "docs" / "questions.md"

_QUESTIONS_INTRODUCTION = """# Five questions

Statements for the tables and the [insights](../README.md#insights), each with its answer from the sandbox. They are
the files of [`insights/sql/questions`](../analytics_dagster/insights/sql/questions), written for DuckDB: run them there
after `USE analytics`. From Python they run in the warehouse's own dialect:

```python
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.insights.warehouse import read_insights

with read_insights(load_settings()) as tables:
    answer = tables.ask("noisy_environments")
```
"""


def current(text: str) -> str:
    """Return the README's text with its generated tables as they should be."""
    for name, table in (("assets", assets_table()), ("settings", settings_table()), ("secrets", secrets_table())):
        pattern = re.compile(rf"(<!-- {name}:[^\n]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, replaced = pattern.subn(lambda match, table=table: f"{match[1]}{table}{match[2]}", text)
        assert replaced == 1, name
    return text


def assets_table() -> str:
    """Return the table of assets."""
    rows = [
        (f"`{row.name}`", row.description, row.group, ", ".join(f"`{key}`" for key in row.primary_key), _window(row))
        for row in RESOURCES
    ]
    return _table(("asset", "a row is", "group", "primary key", "cursor, lookback"), rows)


def settings_table() -> str:
    """Return the table of settings."""
    fields = Settings.model_fields.items()
    rows = [(f"`{name}`", _default(field.default), str(field.description)) for name, field in fields]
    return _table(("setting", "default", "meaning"), rows)


def secrets_table() -> str:
    """Return the table of values that are removed from rows."""
    rows = []
    for resource in RESOURCES:
        secret, personal = list[str](), list[str]()
        for column in resource.columns:
            secret += [column.name] * column.secret + [".".join((column.name, *path)) for path in column.secret_paths]
            personal += [column.name] * column.personal
            personal += [".".join((column.name, *path)) for path in column.personal_paths]
        personal += ["fields that the catalog does not know"] * resource.unknown_fields_personal
        if secret or personal:
            rows.append((f"`{resource.name}`", _code(secret), _code(personal)))
    return _table(("asset", "never stored", "stored with `keep_personal_data`"), rows)


def questions_document(answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return docs/questions.md.

    Args:
        answers: The rows of each answer by column, by the question's name.
    """
    parts = [_QUESTIONS_INTRODUCTION]
    for name, question in QUESTIONS.items():
        parts.append(f"\n## {question}\n\n```sql\n{read_text(f'questions/{name}')}```\n\n{_text_table(answers[name])}")
    return "".join(parts)


def _text_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a block of aligned text: numbers to the right."""
    names = list(rows[0])
    numbers = {name for name in names if all(not isinstance(row[name], str) for row in rows)}
    cells = [names, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    lines = [
        "  ".join(
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for name, cell, width in zip(names, line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value)


def _code(paths: Iterable[str]) -> str:
    return ", ".join(path if " " in path else f"`{path}`" for path in paths)


def _window(row: Resource) -> str:
    if not row.incremental:
        return ""
    minutes = int(row.lookback.total_seconds()) // 60
    lookback = f"{row.lookback.days} days" if row.lookback.days else f"{minutes} min"
    return f"`{row.cursor}`, {lookback}"


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return ""  # the description says it
    if value is False or value:
        return f"`{str(value).lower() if isinstance(value, bool) else value}`"
    return ""


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    README.write_text(current(README.read_text()))
    with TemporaryDirectory() as temporary, a_project(Path(temporary)) as project:
        QUESTIONS_DOCUMENT.write_text(questions_document(sandbox_answers(project)))
