"""Groups in the metadata of a graph that are suggestions, not the user's."""

from collections.abc import Iterable
from typing import Any

SUGGESTED = "suggested"  # the source of such a group; a user's group has none


def is_suggested(group: dict[str, Any]) -> bool:
    """Return whether an entry of `info["groups"]` is a suggestion."""
    return group.get("source") == SUGGESTED


def with_suggestions(stored: Iterable[dict[str, Any]], suggested: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of groups with other suggestions: the user's as they are, then these."""
    users = [group for group in stored if not is_suggested(group)]
    return [*users, *({**group, "source": SUGGESTED} for group in suggested)]
