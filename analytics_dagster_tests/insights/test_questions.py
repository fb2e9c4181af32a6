"""The questions of docs/questions.md: their statements run, and the printed answers are those of the sandbox."""

import re
from importlib.resources import files
from pathlib import Path

import duckdb
import pytest

from analytics_dagster.insights.questions import QUESTIONS
from analytics_dagster_tests.support.answers import sandbox_answers
from analytics_dagster_tests.support.documents import QUESTIONS_DOCUMENT, questions_document
from analytics_dagster_tests.support.project import Project


def test_each_file_answers_a_question_and_each_question_has_a_file():
    folder = files("analytics_dagster.insights") / "sql" / "questions"
    assert {Path(file.name).stem for file in folder.iterdir()} == set(QUESTIONS)


@pytest.mark.every_warehouse
def test_the_printed_answers_are_those_of_the_sandbox_on_every_warehouse(project: Project):
    answers = sandbox_answers(project)
    assert all(answers.values())
    assert QUESTIONS_DOCUMENT.read_text() == questions_document(answers), "run `make docs`"


def test_the_printed_statements_run_as_they_stand(project: Project):
    answers = sandbox_answers(project)
    statements = re.findall(r"```sql\n(.*?)```", QUESTIONS_DOCUMENT.read_text(), re.DOTALL)
    with duckdb.connect(str(project.warehouse), read_only=True) as connection:
        connection.execute("USE analytics")
        found = [len(connection.execute(statement).fetchall()) for statement in statements]
    assert found == [len(answers[name]) for name in QUESTIONS]
