"""Migrations: the metadata of older format versions in the shape of the current one.

To change the format, raise `metadata.FORMAT_VERSION`, add a function here, and keep a file that the old code wrote
under `tests/data/`. Columns have only been added: up to version 4 as optional ones, in version 5 those of labels.
"""

from collections.abc import Callable
from typing import Any

TRACED_IN_VERSION_2 = ("scores", "coverage", "bound")


def _move_facts_to_traced(info: dict[str, Any]) -> dict[str, Any]:
    """Move scores, coverage and bound into "traced"; version 1 had them next to it."""
    if not isinstance(info.get("traced"), dict):
        return info  # damaged: the check of the current shapes names the entry
    moved = {name: info[name] for name in TRACED_IN_VERSION_2 if name in info}
    others = {name: value for name, value in info.items() if name not in TRACED_IN_VERSION_2}
    return {**others, "traced": {**info["traced"], **moved}}


def _add_checksums(info: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata as it is: version 3 added checksums beside it, in `graphs/checksums.py`."""
    return info


def _allow_columns(info: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata as it is: version 4 added the optional columns of effects and heads."""
    return info


def _keep_names(info: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata as it is: version 5 added the columns of labels, which `label_migration` fills."""
    return info


# Each function turns the metadata of its version into that of the next one.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _move_facts_to_traced,
    2: _add_checksums,
    3: _allow_columns,
    4: _keep_names,
}
FIRST_VERSION_WITH_CHECKSUMS = 3
OLDEST_VERSION = min(MIGRATIONS)


def migrate(info: dict[str, Any], version: int) -> dict[str, Any]:
    """Return the metadata of a version in the shape of the current one. Does not change its argument."""
    while version in MIGRATIONS:
        info = MIGRATIONS[version](info)
        version += 1
    return info
