"""The account's projects, teams and users: listings that all projects share and time does not change.

Each is complete and in served order. The rows of a project are in `store`.
"""

from collections.abc import Sequence

from analytics_dagster.sandbox.changes import BY_RANK, Changes, ServedRow
from analytics_dagster.sandbox.model import DAY
from analytics_dagster.sandbox.payload import Row, address, secret
from analytics_dagster.sandbox.project import SandboxProject

ACCOUNT_RESOURCES = ("projects", "teams", "users")
_ACCOUNT_ID = 77
_CREATED = 1_546_300_800  # 2019-01-01

# Projects of the account whose keys the service does not know.
_OTHER_PROJECTS: tuple[tuple[int, str | None, str | None], ...] = (
    (1002, "warehouse-app", "enabled"),
    (1003, None, None),  # deleted: the row stays listed without its name
    (1004, "back-office", "disabled"),
    (1005, "mobile", "enabled"),
)
_ACCESS = ("standard", "light", "view", "owner")


class Account:
    """The account's rows, with the changes that tests made. Not thread-safe: the service holds a lock.

    Args:
        projects: The projects that the service serves. The account has others beside them.
    """

    def __init__(self, projects: Sequence[SandboxProject]) -> None:
        served = [(project.id, project.name, "enabled") for project in projects]
        numbers, names = {number for number, _, _ in served}, {name for _, name, _ in served}
        others = [entry for entry in _OTHER_PROJECTS if entry[0] not in numbers and entry[1] not in names]
        self._projects = [*served, *others]
        self._changes = {resource: Changes(resource) for resource in ACCOUNT_RESOURCES}

    def table(self, resource: str) -> list[ServedRow]:
        """Return all rows of a resource, in served order."""
        match resource:
            case "projects":
                rows = [_project_row(*entry) for entry in self._projects]
            case "teams":
                rows = _team_rows()
            case _:
                rows = _user_rows()
        return sorted(self._changes[resource].apply(rows), key=BY_RANK, reverse=True)

    def changes(self, resource: str) -> Changes:
        """Return the changes to the rows of a resource."""
        return self._changes[resource]


def _project_row(number: int, name: str | None, status: str | None) -> Row:
    """Return a row of /v1/projects. Its `settings_data` holds integration keys."""
    created = _CREATED + (number - 1001) % 50 * 40 * DAY
    return {
        "id": number,
        "account_id": _ACCOUNT_ID,
        "name": name,
        "status": status,
        "date_created": created,
        "date_modified": created + (number - 1001) % 50 * DAY + 3_600,
        "settings_data": {
            "grouping": {"auto-upgrade": True},
            "integrations": {
                "chat": {"webhookKey": secret("chat", number)},
                "pager": {"key": secret("pager", number)},
            },
            "time.zone": "Etc/UTC",
        },
    }


def _team_rows() -> list[Row]:
    return [
        {
            "id": 2001 + n,
            "account_id": _ACCOUNT_ID,
            "name": f"Team {n + 1:02d}",
            "access_level": _ACCESS[n % len(_ACCESS)],
        }
        for n in range(27)
    ]


def _user_rows() -> list[Row]:
    return [{"id": 301 + n, "username": address(9_001 + n), "email": address(9_001 + n)} for n in range(12)]
