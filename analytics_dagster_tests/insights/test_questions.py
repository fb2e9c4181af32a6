"""The questions of docs/questions.md: their statements run, and the printed answers are those of the sandbox."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics_dagster.insights.questions import QUESTIONS
from analytics_dagster_tests.support.answers import sandbox_answers
from analytics_dagster_tests.support.documents import QUESTIONS_DOCUMENT, questions_document

Answers = Mapping[str, Sequence[Mapping[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def answers(folder: Path) -> Answers:
    return sandbox_answers(folder)


def test_each_file_answers_a_question_and_each_question_has_a_file():
    folder = files("analytics_dagster.insights") / "sql" / "questions"
    assert {Path(file.name).stem for file in folder.iterdir()} == set(QUESTIONS)


def test_the_printed_answers_are_those_of_the_sandbox(answers: Answers):
    assert all(answers.values())
    assert QUESTIONS_DOCUMENT.read_text() == questions_document(answers), "run `make docs`"


def test_the_printed_statements_run_as_they_stand(folder: Path, answers: Answers):
    statements = re.findall(r"```sql\n(.*?)```", QUESTIONS_DOCUMENT.read_text(), re.DOTALL)
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as connection:
        connection.execute("USE analytics")
        found = [len(connection.execute(statement).fetchall()) for statement in statements]
    assert found == [len(answers[name]) for name in QUESTIONS]
