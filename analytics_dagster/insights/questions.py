"""Questions that a team asks of its errors and deploys, each answered by one statement in `sql/questions/`.

    with read_insights(settings) as tables:
        answer = tables.ask("noisy_environments")

docs/questions.md has the statements with their answers from the sandbox.
"""

from collections.abc import Mapping

QUESTIONS: Mapping[str, str] = {
    "busiest_items_of_a_release": "Which errors does the running release report most?",
    "time_to_resolve": "How long do we take to resolve errors, by level and week?",
    "what_came_back": "Which resolved errors came back, and after which deploy?",
    "noisy_environments": "Which environments are noisy, and is it one error?",
    "what_the_last_deploy_changed": "What did the last deploy change?",
}
"""The question that each statement answers."""
