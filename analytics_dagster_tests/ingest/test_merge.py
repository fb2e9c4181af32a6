"""The merges, through dlt's pipeline: which rows stay, of one file or several, and after a failure."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pyarrow as pa
import pytest
from dlt.common.data_types import TDataType
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials
from dlt.pipeline.exceptions import PipelineStepFailed

from analytics_dagster.ingest.warehouse.duckdb_merge import MergingDuckDb
from analytics_dagster.ingest.warehouse.postgres_merge import MergingPostgres
from analytics_dagster_tests.support.postgres_server import PostgresDatabase

Rows = list[dict[str, Any]]


class Target:
    """A table `t`, merged by `k`, in a DuckDB file or in a PostgreSQL database."""

    def __init__(self, folder: Path, database: PostgresDatabase | None) -> None:
        self.file = folder / "it's here.duckdb"
        self.database = database
        self._folder = folder / "it's working"

    def load(self, *batches: Rows, memory_limit: str = "", merge_key: str = "", v_type: TDataType = "text") -> None:
        limits = {"memory_limit": memory_limit, "threads": 1} if memory_limit else {}
        pipeline = dlt.pipeline(
            "merge",
            destination=MergingPostgres(self.database.url)
            if self.database
            else MergingDuckDb(DuckDbCredentials(str(self.file), global_config=limits)),
            dataset_name="d",
            pipelines_dir=str(self._folder),
        )
        pipeline.run(
            dlt.resource(
                [pa.Table.from_pylist(rows) for rows in batches],
                name="t",
                primary_key="k",
                merge_key=merge_key,
                write_disposition={"disposition": "merge", "strategy": "delete-insert"},
                columns={"seq": {"dedup_sort": "desc"}, "v": {"data_type": v_type}},
                file_format="parquet",
            )
        )

    def rows(self, statement: str = "SELECT k, v FROM d.t ORDER BY 1, 2") -> Sequence[Any]:
        if self.database:
            return self.database.run(statement)
        with duckdb.connect(str(self.file), read_only=True) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def target(tmp_path: Path, warehouse_kind: str, request: pytest.FixtureRequest) -> Iterator[Target]:
    if warehouse_kind == "duckdb":
        yield Target(tmp_path, None)
        return
    with request.getfixturevalue("postgres_server").database() as database:
        yield Target(tmp_path, database)


def row(k: int, v: str, seq: int = 0, **more: Any) -> dict[str, Any]:
    return {"k": k, "v": v, "seq": seq, **more}


@pytest.mark.every_warehouse
def test_a_row_replaces_the_one_with_its_key_and_leaves_the_others(target: Target) -> None:
    target.load([row(1, "old"), row(2, "old")])
    target.load([row(2, "new"), row(3, "new")])

    assert target.rows() == [(1, "old"), (2, "new"), (3, "new")]


@pytest.mark.every_warehouse
@pytest.mark.parametrize("files", [1, 3])
def test_of_several_versions_in_a_load_the_one_read_last_stays(
    target: Target, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if files > 1:
        monkeypatch.setenv("DATA_WRITER__FILE_MAX_ITEMS", "2")
        monkeypatch.setenv("DATA_WRITER__BUFFER_MAX_ITEMS", "2")
    target.load(
        [row(1, "second", seq=1), row(1, "first", seq=0)],
        [row(2, "first", seq=2), row(1, "last", seq=5)],
        [row(2, "last", seq=4), row(2, "second", seq=3)],
    )

    assert target.rows() == [(1, "last"), (2, "last")]


@pytest.mark.every_warehouse
def test_rows_that_share_the_merge_key_are_replaced_as_well(target: Target) -> None:
    target.load([row(1, "old", hour=7), row(2, "old", hour=7), row(3, "old", hour=8)], merge_key="hour")
    target.load([row(1, "new", hour=7)], merge_key="hour")

    assert target.rows() == [(1, "new"), (3, "old")]


@pytest.mark.every_warehouse
def test_a_load_without_rows_takes_none_away(target: Target) -> None:
    target.load([row(1, "x")])
    target.load([])

    assert target.rows() == [(1, "x")]


@pytest.mark.every_warehouse
def test_a_merge_that_fails_half_way_leaves_the_table_as_it_was(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOAD__RAISE_ON_MAX_RETRIES", "1")
    target.load([row(1, "{}"), row(2, "{}")], v_type="json")

    with pytest.raises(PipelineStepFailed):  # once the old rows are deleted
        target.load([row(1, "[]"), row(2, "no JSON")], v_type="json")

    assert target.rows() == [(1, "{}"), (2, "{}")]


@pytest.mark.every_warehouse
def test_large_rows_are_merged(target: Target) -> None:
    """PostgreSQL gets them in batches of bytes."""
    target.load([row(k, "x" * 2**20, seq=k) for k in range(40)])
    assert target.rows("SELECT count(*), min(length(v)) FROM d.t") == [(40, 2**20)]


def test_rows_too_large_for_the_memory_limit_are_merged_without_it(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row(k, "x" * 2**20) for k in range(64)]

    target.load(rows, memory_limit="32MB")

    assert target.rows("SELECT count(*), min(len(v)) FROM d.t") == [(64, 2**20)]
    assert "t: the rows do not fit into memory_limit; merging them without it" in caplog.messages


@pytest.mark.every_warehouse
def test_nothing_is_left_beside_the_table(target: Target) -> None:
    target.load([row(1, "x")])

    tables = {
        name
        for (name,) in target.rows(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables "
            "WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        )
    }
    assert {name for name in tables if "_dlt" not in name} == {"d.t"}
