"""Redaction: secrets in texts, and secrets and personal data in raw rows.

A text that may hold a secret is redacted before it is logged, raised or posted; a row, before anything else happens to
it:

    text = redact(text, settings.secrets)
    PathTree([("data", "person", "email")]).remove_from(rows)
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any
from urllib.parse import quote, quote_plus

from analytics_dagster.catalog import ANY_DEPTH, Path

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

_SEPARATORS = str.maketrans("", "", "-_ ")


def normal_name(name: str) -> str:
    """Return a name as names are compared: casefolded, without separators. `Access-Token` is `accessToken`."""
    return name.casefold().translate(_SEPARATORS)


class PathTree:
    """Paths of values to remove from objects.

    Names are compared by `normal_name`. A path leads through lists, and through texts that are JSON. A text that is not
    JSON, but names a value to remove, is replaced by `[redacted]`.

    Args:
        paths: Paths from an object down to a value; before the last name, `ANY_DEPTH` stands for any depth.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        normal = [tuple(name if name == ANY_DEPTH else normal_name(name) for name in path) for path in paths]
        self.names = frozenset(path[-1] for path in normal)
        self._any_depth = frozenset(path[1] for path in normal if path[0] == ANY_DEPTH)
        self._here = frozenset(path[0] for path in normal if len(path) == 1)
        parents = {path[0] for path in normal} - self._here - {ANY_DEPTH}
        self._below = {name: PathTree(path[1:] for path in normal if path[0] == name) for name in parents}

    def remove_from(self, values: list[Any]) -> None:
        """Remove the values from the objects of a list, and of lists and texts in it, in place.

        One path is removed from all objects before the next: that is several times faster than object by object.
        """
        objects = self._find_objects(values)
        if self._any_depth:
            self._remove_at_any_depth(list(objects))
        if not (self._here or self._below):
            return
        for name in set[str]().union(*objects):
            key = normal_name(name)
            if key in self._here:
                _delete(objects, name)
            elif key in self._below:
                parents = [value for value in objects if name in value]
                children = [value[name] for value in parents]
                has_texts = str in set(map(type, children))
                self._below[key].remove_from(children)
                if has_texts:
                    for parent, child in zip(parents, children, strict=True):
                        parent[name] = child

    def _remove_at_any_depth(self, objects: list[dict[str, Any]]) -> None:
        """Remove values from objects, and from all objects, lists and texts below them."""
        while objects:
            lists, texts = list[list[Any]](), set[str]()
            for value in objects:  # the list grows meanwhile: objects can be nested deeper than calls
                for child in value.values():
                    kind = type(child)
                    if kind is str:
                        texts.add(child)
                    elif kind is dict:
                        objects.append(child)
                    elif kind is list:
                        lists.append(child)
            for name in set[str]().union(*objects):
                if normal_name(name) in self._any_depth:
                    _delete(objects, name)
            if any(map(self._may_name, texts)):
                for value in objects:
                    value.update({name: self._clean(child) for name, child in value.items() if type(child) is str})
            entries = list(chain.from_iterable(lists))
            kinds = set(map(type, entries))
            texts = {entry for entry in entries if type(entry) is str}
            nested = not kinds.isdisjoint((dict, list)) or any(map(self._may_name, texts))
            objects = self._find_objects(lists) if nested else []

    def _find_objects(self, values: list[Any]) -> list[dict[str, Any]]:
        """Return the objects in a list and in lists within it, and clean the texts there."""
        objects = [value for value in values if type(value) is dict]
        lists = [values] if len(objects) < len(values) else []
        for inner in lists:  # it grows meanwhile: lists can be nested deeper than calls
            lists += [value for value in inner if type(value) is list]
            if inner is not values:
                objects += [value for value in inner if type(value) is dict]
            if str in set(map(type, inner)):
                inner[:] = [self._clean(value) if type(value) is str else value for value in inner]
        return objects

    def _clean(self, text: str) -> str:
        """Return a text without the values to remove."""
        if not self._may_name(text):
            return text
        try:
            values = [json.loads(text)]
            self.remove_from(values)
            return json.dumps(values[0], ensure_ascii=False)
        except (ValueError, RecursionError):
            named = normal_name(text)
            # A name by itself has no value: options for scrubbing list such names.
            harmless = named in self.names or not any(name in named for name in self.names)
            return text if harmless else REDACTED

    def _may_name(self, text: str) -> bool:
        """Whether a text names a value to remove, or has escapes that may spell such a name."""
        named = normal_name(text)
        return any(name in named for name in self.names) or "\\u" in text


def remove_other_fields(rows: list[Any], fields: frozenset[str]) -> set[str]:
    """Remove all but some fields from rows, in place, and return the names of those removed.

    Rows within lists lose them too, and a row that is a text is replaced by `[redacted]`, because it may hold anything.
    """
    removed = set[str]()
    lists = [rows]
    for inner in lists:  # it grows meanwhile
        lists += [value for value in inner if type(value) is list]
        inner[:] = [REDACTED if type(value) is str else value for value in inner]
        objects = [value for value in inner if type(value) is dict]
        for name in set[str]().union(*objects) - fields:
            removed.add(name)
            _delete(objects, name)
    return removed


def _delete(objects: list[dict[str, Any]], name: str) -> None:
    for value in objects:
        value.pop(name, None)
