"""The answers of the sandbox to the questions of docs/questions.md, at a time that stands still.

answers = sandbox_answers(project)
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import time_machine

from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.insights.questions import QUESTIONS
from analytics_dagster.insights.refresh import refresh
from analytics_dagster.insights.warehouse import open_insights
from analytics_dagster_tests.support.project import Project, load
from analytics_dagster_tests.support.service import a_service

ASKED_AT = datetime(2026, 3, 10, 18, tzinfo=UTC)

_TABLES = ("items", "deploys", "occurrences", "items_metrics")


def sandbox_answers(project: Project) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Load the sandbox into a project's warehouse, compute the insights, and return the rows of each answer."""
    with time_machine.travel(ASKED_AT, tick=False), a_service(history_days=9) as service:
        project.use(service)
        for name in _TABLES:
            load(name)
        with open_insights(load_settings()) as tables:
            refresh(tables, now=ASKED_AT)
            return {name: tables.ask(name) for name in QUESTIONS}
