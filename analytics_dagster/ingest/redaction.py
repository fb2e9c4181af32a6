"""Redaction: secrets in texts, and secrets and personal data in raw rows.

A text that may hold a secret is redacted before it is logged, raised or posted; a row, before anything else happens to
it:

    text = redact(text, settings.secrets)
    remove_paths(rows, path_tree([("data", "person", "email")]))
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

from analytics_dagster.catalog import Path

REDACTED = "[redacted]"


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text with every spelling of every secret replaced by `[redacted]`.

    Args:
        text: A message, a URL, a JSON document or the like.
        secrets: Values of keys and webhooks; empty ones are ignored.
    """
    spellings = {spelling for secret in secrets if secret for spelling in _spellings(secret)}
    if not spellings:
        return text
    # Longest first: one secret can be the beginning of another.
    pattern = "|".join(re.escape(spelling) for spelling in sorted(spellings, key=len, reverse=True))
    return re.sub(pattern, REDACTED, text)


def _spellings(secret: str) -> Iterator[str]:
    """Yield the secret as it is, percent-encoded, and escaped as in JSON."""
    yield from (secret, quote(secret, safe=""), quote(secret), quote_plus(secret))
    yield from (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))


# -- rows --------------------------------------------------------------------------------------------------

PathTree = dict[str, Any]


def path_tree(paths: Iterable[Path]) -> PathTree:
    """Return paths as nested mappings, each ending at None."""
    tree: PathTree = {}
    for *parents, name in paths:
        level = tree
        for parent in parents:
            level = level.setdefault(parent, {})
        level[name] = None
    return tree


def remove_paths(values: list[Any], tree: PathTree) -> None:
    """Delete the values at the ends of a tree's paths from objects, in place. Lists on the way are traversed.

    One path is removed from all objects before the next: that is several times faster than object by object.
    """
    objects = [value for value in values if type(value) is dict]
    for name, rest in tree.items():
        if rest is None:
            for value in objects:
                value.pop(name, None)
        elif name == "*":
            remove_paths([inner for value in objects for inner in value.values()], rest)
        else:
            remove_paths([value[name] for value in objects if name in value], rest)
    if len(objects) < len(values):
        inside_lists = [inner for value in values if type(value) is list for inner in value]
        if inside_lists:
            remove_paths(inside_lists, tree.get("*") or tree)


def without_fields(row: Any, fields: frozenset[str]) -> Any:
    """Return a row without some fields; what is not an object is searched for objects, or returned as it is."""
    if isinstance(row, list):
        return [without_fields(inner, fields) for inner in row]
    return {name: value for name, value in row.items() if name not in fields} if isinstance(row, dict) else row
