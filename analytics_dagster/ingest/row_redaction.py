"""Removal of secrets and personal data from raw rows, by the paths that the catalog names."""

from collections.abc import Iterable
from typing import Any

from analytics_dagster.catalog import Path

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
