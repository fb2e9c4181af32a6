"""The listings that time does not change: the account's projects, teams and users, and the project's environments.

Each is complete and in served order. Rows that change with time are in `world`.
"""

from analytics_dagster.sandbox.model import DAY, PROJECT_ID
from analytics_dagster.sandbox.payload import Row, address, secret

ACCOUNT_ID = 77
PROJECT_SLUG = "storefront"
_CREATED = 1_546_300_800  # 2019-01-01

_PROJECTS = (
    (PROJECT_ID, PROJECT_SLUG, "enabled"),
    (1002, "warehouse-app", "enabled"),
    (1003, None, None),  # deleted: the row stays listed without its name
    (1004, "back-office", "disabled"),
    (1005, "mobile", "enabled"),
)
_ENVIRONMENTS = (
    "production",
    "staging",
    "development",
    "qa",
    *(f"review-{number}" for number in range(101, 124)),
)
_ACCESS = ("standard", "light", "view", "owner")


def projects() -> list[Row]:
    """Return the rows of /v1/projects. Their `settings_data` holds integration keys."""
    return [
        {
            "id": number,
            "account_id": ACCOUNT_ID,
            "name": name,
            "status": status,
            "date_created": _CREATED + (number - PROJECT_ID) * 40 * DAY,
            "date_modified": _CREATED + (number - PROJECT_ID) * 41 * DAY + 3_600,
            "settings_data": {
                "grouping": {"auto-upgrade": True},
                "integrations": {
                    "chat": {"webhookKey": secret("chat", number)},
                    "pager": {"key": secret("pager", number)},
                },
                "time.zone": "Etc/UTC",
            },
        }
        for number, name, status in _PROJECTS
    ]


def environments() -> list[Row]:
    """Return the rows of /v1/environments. `visible` is a number in some rows and a boolean in others."""
    return [
        {
            "id": 5001 + index,
            "project_id": PROJECT_ID,
            "environment": name,
            "visible": (1, True, 0, 1, False)[index % 5] if index > 1 else 1,
        }
        for index, name in enumerate(_ENVIRONMENTS)
    ]


def teams() -> list[Row]:
    """Return the rows of /v1/teams."""
    return [
        {
            "id": 2001 + n,
            "account_id": ACCOUNT_ID,
            "name": f"Team {n + 1:02d}",
            "access_level": _ACCESS[n % len(_ACCESS)],
        }
        for n in range(27)
    ]


def users() -> list[Row]:
    """Return the rows of /v1/users."""
    return [{"id": 301 + n, "username": address(9_001 + n), "email": address(9_001 + n)} for n in range(12)]


LISTINGS = {"projects": projects, "environments": environments, "teams": teams, "users": users}
