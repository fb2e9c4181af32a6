"""Long windows are loaded in pieces, oldest first: rows decide their size, and what is loaded stays."""

import logging
from datetime import UTC, datetime, time, timedelta

import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from analytics_dagster.ingest import pieces
from analytics_dagster.ingest.lists import Bounds, ListOrder, Page
from analytics_dagster.ingest.pieces import Estimate, cut_window, look_for_cuts
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.live_list import NOW, READING, LiveList, newest_first
from analytics_dagster_tests.support.project import Project, load, materializations
from analytics_dagster_tests.support.service import a_service, truth

PIECE = 1_000
DAYS = 4


def look(live: LiveList, bounds: Bounds, order: ListOrder = READING) -> tuple[Estimate, list[int]]:
    """Return the estimate of a list in memory, and the pages that were looked at."""
    looks = look_for_cuts(order, bounds, page_size=live.page_size)
    numbers = [next(looks)]
    try:
        while True:
            rows = list(live.page(numbers[-1]))
            page = Page(number=numbers[-1], rows=rows, envelope=None, read_at=datetime.now(UTC))
            numbers.append(looks.send(page))
    except StopIteration as end:
        return end.value, numbers


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", PIECE)


# -- where a window is cut --------------------------------------------------------------------------------------


def test_rows_decide_where_a_window_is_cut() -> None:
    live = LiveList(newest_first(3_500), page_size=20)

    estimate, numbers = look(live, Bounds())

    assert numbers == [51, 101, 151, 201]
    assert estimate.cuts == [live.rows[place].time for place in (3_000, 2_000, 1_000)]
    assert (estimate.complete, estimate.rows, estimate.requests) == (True, 4_000, 200)


def test_a_window_with_few_rows_costs_one_look() -> None:
    live = LiveList(newest_first(3_500), page_size=20)
    estimate, numbers = look(live, Bounds(start=live.rows[900].time))
    assert (estimate.cuts, numbers) == ([], [51])


def test_only_looks_within_the_window_are_cuts() -> None:
    live = LiveList(newest_first(5_500), page_size=20)
    start, end = live.rows[4_500].time, live.rows[1_500].time

    estimate, _ = look(live, Bounds(start=start, end=end))

    assert estimate.cuts == [live.rows[place].time for place in (4_000, 3_000, 2_000)]
    assert estimate.rows == 4_000


def test_where_page_numbers_end_at_a_depth_the_rest_is_one_piece_of_unknown_size() -> None:
    live = LiveList(newest_first(5_500), page_size=20)
    live.deepest = 120

    estimate, _ = look(live, Bounds(start=live.rows[-1].time))

    assert estimate.cuts == [live.rows[place].time for place in (2_000, 1_000)]
    assert (estimate.complete, estimate.rows) == (False, 2_000)


def test_a_service_that_ignores_page_numbers_is_not_looked_at_for_ever() -> None:
    class OnePage(LiveList):
        def page(self, _: int) -> list[object]:  # type: ignore[override]
            return list(self.rows[:20])

    _, numbers = look(OnePage(newest_first(500), page_size=20), Bounds(start=NOW - 10**6))
    assert len(numbers) == 2


def test_the_pieces_of_a_window_meet_and_cover_it() -> None:
    start, end = (datetime.fromtimestamp(NOW + hours * 3_600, UTC) for hours in (-10, 0))
    cuts = [NOW - 40_000, NOW - 30_000, NOW - 10_000, NOW]

    found = cut_window(Window(start=start, end=end), cuts)

    assert [piece.start for piece in found[1:]] == [piece.end for piece in found[:-1]]
    assert (found[0].start, found[-1].end, len(found)) == (start, end, 3)


# -- loading them -----------------------------------------------------------------------------------------------


@pytest.fixture
def busy(project: Project) -> Sandbox:  # noqa: ARG001 - the project's folder comes first
    with a_service(history_days=DAYS) as service:
        yield service


def whole(days: int = DAYS) -> Window:
    midnight = datetime.combine(datetime.now(UTC).date(), time(), UTC)
    return Window(start=midnight - timedelta(days=days), end=midnight + timedelta(days=1))


def windows(project: Project) -> list[tuple[datetime | None, datetime]]:
    return project.sql(
        "SELECT window_start, window_end FROM analytics.load_windows WHERE resource = 'occurrences' ORDER BY loaded_at"
    )


def keys(project: Project) -> list[int]:
    return [key for (key,) in project.sql("SELECT id FROM analytics.occurrences")]


def fail_after(service: Sandbox, requests: int) -> None:
    """Let the service be down from a request on."""
    service.fail_next("status", resource="occurrences", status=503, times=10_000, after=requests)


@pytest.mark.parametrize("paging", ["auto", "page"])
@pytest.mark.parametrize("full", [False, True])
def test_a_range_is_loaded_in_pieces_oldest_first(full: bool, paging: str, project: Project, busy: Sandbox) -> None:  # noqa: FBT001
    project.use(busy, page_size__occurrences=100, paging__occurrences=paging)

    report = load("occurrences", None if full else whole())

    loaded = windows(project)
    assert len(loaded) > 5
    assert [start for start, _ in loaded[1:]] == [end for _, end in loaded[:-1]]
    assert loaded[0][0] == (None if full else whole().start)
    assert sorted(keys(project)) == sorted(truth(busy, "occurrences"))
    assert (report.window.start, report.window.end) == (loaded[0][0], loaded[-1][1])
    assert report.rows_in_table == report.new_rows == len(keys(project))


@pytest.mark.every_warehouse
@pytest.mark.parametrize("full", [False, True])
def test_what_fails_late_keeps_what_was_loaded_and_a_resumed_load_goes_on_from_there(
    full: bool,  # noqa: FBT001
    project: Project,
    busy: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.001)
    project.use(busy, page_size__occurrences=100, paging__occurrences="page")
    window = None if full else whole()
    needed = load("occurrences", window).requests
    project.clear()
    busy.requests.clear()

    fail_after(busy, needed * 9 // 10)
    with pytest.raises(PipelineStepFailed):
        load("occurrences", window)
    kept, rows = windows(project), set(keys(project))
    assert len(kept) > 4
    assert rows == {row["id"] for row in busy.rows("occurrences") if row["timestamp"] < kept[-1][1].timestamp()}

    busy.clear_faults()
    report = load("occurrences", window, resume=True)
    assert report.window.start == kept[-1][1]
    assert report.requests < needed / 2
    assert sorted(keys(project)) == sorted(truth(busy, "occurrences"))


@pytest.mark.every_warehouse
def test_a_run_that_is_executed_again_goes_on_where_the_first_one_stopped(
    project: Project, busy: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.001)
    project.use(busy, page_size__occurrences=100, paging__occurrences="page")
    needed = load("occurrences").requests
    first, last = whole().start, datetime.now(UTC)
    span = (first.date().isoformat(), last.date().isoformat())
    project.set(start_date=span[0])
    project.clear()
    busy.requests.clear()
    fail_after(busy, needed * 9 // 10)
    failed = project.materialize("occurrences", span=span)
    assert not failed.success
    kept = windows(project)
    assert len(kept) > 4
    busy.clear_faults()
    busy.requests.clear()

    again = project.materialize("occurrences", span=span, executes_again=failed.run_id)
    once_more = project.materialize("occurrences", span=span, executes_again=again.run_id)

    assert again.success
    assert materializations(again)["occurrences"]["requests"] < needed / 2
    assert materializations(once_more)["occurrences"]["requests"] >= needed, "a run that succeeded loads again"
    assert windows(project)[: len(kept)] == kept
    assert sorted(keys(project)) == sorted(truth(busy, "occurrences"))


def test_a_load_says_at_its_start_what_it_takes_and_then_how_far_it_is(
    project: Project, busy: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    project.use(busy, page_size__occurrences=100)
    with caplog.at_level(logging.INFO, logger="analytics_dagster"):
        load("occurrences", whole())

    lines = [record.message for record in caplog.records if "piece" in record.message]
    count = len(windows(project))
    assert f"loading {count} pieces, oldest first: at least " in lines[0]
    assert [line.split(" is ")[0] for line in lines[1:]] == [
        f"occurrences: piece {number} of {count}" for number in range(1, count + 1)
    ]


def test_a_service_that_refuses_deep_pages_is_loaded_in_one_piece(project: Project, busy: Sandbox) -> None:
    project.use(busy, page_size__occurrences=100)

    def refuse_deep_pages(_: str, page: int | None) -> None:
        if page and page > 1:
            busy.fail_next("status", resource="occurrences", status=422)

    busy.before_reply = refuse_deep_pages
    load("occurrences", whole())

    assert len(windows(project)) == 1
    assert sorted(keys(project)) == sorted(truth(busy, "occurrences"))


def test_a_late_row_with_a_new_key_is_loaded_with_the_piece_of_its_neighbours(project: Project, busy: Sandbox) -> None:
    project.use(busy, page_size__occurrences=100)
    first = Window(start=whole().start, end=whole().start + timedelta(days=1))
    load("occurrences", first)
    rows = busy.rows("occurrences")
    newest = max(rows, key=lambda row: row["id"])
    late = {**newest, "id": newest["id"] + 1, "timestamp": int(first.end.timestamp()) + 60}
    busy.plant("occurrences", late)

    load("occurrences", whole(), resume=True)

    assert len(windows(project)) > 3
    assert late["id"] in keys(project)


def test_the_reader_of_dlt_reads_a_range_as_one_piece(project: Project, busy: Sandbox) -> None:
    project.use(busy, page_size__occurrences=1000, reader="rest_api")
    load("occurrences", whole())
    assert len(windows(project)) == 1


def test_a_tick_is_not_looked_at(project: Project, service: Sandbox) -> None:
    project.use(service)
    window = whole(1)
    load("deploys", window)
    service.requests.clear()
    load("deploys", window, resume=True)
    assert max(int(request.query["page"]) for request in service.requests) < 100
