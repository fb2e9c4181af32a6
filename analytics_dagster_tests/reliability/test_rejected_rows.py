"""Rows that do not fit their columns, through HTTP, dlt and DuckDB: each row sent is either loaded or rejected."""

import json
from random import Random
from typing import Any

import pytest

from analytics_dagster.catalog import get_resource, table_columns
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, checked, load
from analytics_dagster_tests.support.service import a_service

pytestmark = pytest.mark.every_warehouse

WRONG: dict[str, Any] = {
    "a text": "12",
    "null": None,
    "a list": [1, 2],
    "an object": {"a": 1},
    "a fraction": 1.5,
    "a flag": True,
    "above 64 bits": 2**64,
    "far below": -(2**70),
    "milliseconds": 1_760_000_000_000,
    "long ago": 5,
}
TEXTS = {
    "half a surrogate pair": r'"\ud800 half"',
    "NaN": "NaN",
    "infinity": "-Infinity",
    "10 MB": '"' + "x" * 10_000_000 + '"',
    "deep": "[" * 400 + "]" * 400,
    "a long number": "1" * 400,
    "NUL": r'"\u0000 and \u0000\u0000"',
    "a name with NUL": r'{"\u0000": 1}',
}
DROP = 'x" BIGINT); DROP TABLE analytics.deploys; --'
NAMES = [
    "a.b",
    "a b",
    "a__b",
    "A_B",
    "a_b",
    'quo"te',
    "it's",
    "",
    "read_at",
    "extra",
    "_dlt_id",
    "ключ",
    "id ",
    "ID",
    DROP,
]


@pytest.fixture
def loaded(project: Project, service: Sandbox) -> Project:
    project.use(service)
    return project


def load_all(project: Project, name: str) -> tuple[int, int]:
    """Load, and return the number of loaded and of rejected rows, which together are all that were sent."""
    report = load(name)
    ((stored,),) = project.sql(f"SELECT count(*) FROM analytics.{name}")
    ((rejected,),) = project.sql(f"SELECT count(*) FROM analytics.rejected_rows WHERE resource = '{name}'")
    assert (report.rows_loaded, report.rows_rejected) == (stored, rejected)
    assert stored + rejected == report.rows_read
    return stored, rejected


@pytest.mark.every_warehouse(sample=True)
@pytest.mark.parametrize("seed", range(4))
def test_values_of_any_kind_are_loaded_or_rejected(seed: int, loaded: Project, service: Sandbox) -> None:
    chance = Random(seed)
    newest = service.rows("deploys")[0]
    for number in range(60):
        row = {**newest, "id": newest["id"] + 1 + number}
        for name in chance.sample(sorted(row.keys() - {"id"}), chance.randrange(1, 4)):
            row[name] = chance.choice(list(WRONG.values()))
        service.plant("deploys", row)
    for wrong in ("12", None, [1], True, 2**64):
        service.plant("deploys", {**newest, "id": wrong})

    stored, rejected = load_all(loaded, "deploys")

    assert stored >= len(service.rows("deploys")) - 65
    assert rejected >= 5
    rows = loaded.sql("SELECT reason, raw FROM analytics.rejected_rows")
    assert all(reason.startswith(tuple(newest)) for reason, _ in rows), "each names the field"
    assert all(json.loads(raw).keys() == newest.keys() - {"local_username"} for _, raw in rows), "but what is personal"


@pytest.mark.every_warehouse(sample=True)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_that_parsers_dislike_holds_up_no_other_row(text: str, loaded: Project, service: Sandbox) -> None:
    newest = service.rows("deploys")[0]
    for number, name in enumerate(("user_id", "new_field")):
        row = json.dumps({**newest, "id": newest["id"] + 1 + number, name: "HERE"})
        service.plant("deploys", row.replace('"HERE"', text))

    stored, rejected = load_all(loaded, "deploys")

    assert (stored, rejected) == (len(service.rows("deploys")) - 1, 1)
    assert loaded.sql("SELECT extra IS NOT NULL FROM analytics.deploys ORDER BY id DESC LIMIT 1") == [(True,)]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_payload_may_hold_anything(text: str, loaded: Project) -> None:
    with a_service(history_days=0) as service:
        loaded.use(service)
        newest = service.rows("occurrences")[0]
        row = json.dumps({**newest, "id": newest["id"] + 1, "data": {**newest["data"], "custom": "HERE"}})
        service.plant("occurrences", row.replace('"HERE"', text))

        stored, rejected = load_all(loaded, "occurrences")

        assert (stored, rejected) == (len(service.rows("occurrences")), 0)


def test_the_character_nul_is_replaced_where_the_warehouse_refuses_it(loaded: Project, service: Sandbox) -> None:
    newest = service.rows("deploys")[0]
    fields = {"revision": "a\0b\0", "escaped": "\\u0000", "both": "\\\0", "name\0": ["\0"]}
    service.plant("deploys", {**newest, "id": newest["id"] + 1, **fields})
    service.plant("deploys", {**newest, "id": None, "revision": "rejected\0"})

    assert load_all(loaded, "deploys") == (len(service.rows("deploys")) - 1, 1)

    nul = "\ufffd" if loaded.postgres else "\0"
    ((revision, extra),) = loaded.sql("SELECT revision, extra FROM analytics.deploys ORDER BY id DESC LIMIT 1")
    assert revision == f"a{nul}b{nul}"
    assert json.loads(extra) == {"escaped": "\\u0000", "both": f"\\{nul}", f"name{nul}": [nul]}
    ((raw,),) = loaded.sql("SELECT raw FROM analytics.rejected_rows")
    assert json.loads(raw)["revision"] == "rejected\0", "the raw row is JSON, whose escapes are text"


def test_names_of_any_kind_are_kept_in_extra(loaded: Project, service: Sandbox) -> None:
    odd = {name: number for number, name in enumerate(NAMES)}
    newest = service.rows("deploys")[0]
    service.plant("deploys", {**newest, "id": 1 + newest["id"], **odd})

    load_all(loaded, "deploys")

    ((extra,),) = loaded.sql("SELECT extra FROM analytics.deploys ORDER BY id DESC LIMIT 1")
    assert json.loads(extra) == odd
    assert loaded.columns("deploys") == [column.name for column in table_columns(get_resource("deploys"))]


def test_the_checks_tell_of_rejected_rows_and_unknown_fields(loaded: Project, service: Sandbox) -> None:
    newest = service.rows("deploys")[0]
    service.plant("deploys", {**newest, "id": newest["id"] + 1, "a.b": 1})
    service.plant("deploys", {**newest, "id": None})
    load_all(loaded, "deploys")

    told = checked(loaded)

    assert told["deploys", "rejected_rows"].level == "WARN"
    assert told["deploys", "unknown_fields"].level == "WARN"
    assert "a.b" in told["deploys", "unknown_fields"].description
