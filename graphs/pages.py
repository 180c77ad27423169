"""Interactive pages of graphs: the room that makes them comes later, and registers here how."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol


class PageMaker(Protocol):
    """What the room of the page offers."""

    def write(self, subject: Any, path: Path, **options: Any) -> Path:
        """Write the page of a graph, a report or a difference of graphs as one HTML file, and return its path."""
        ...

    def embed(self, subject: Any, **options: Any) -> Any:
        """Return an object that a notebook shows as the page."""
        ...


_load: Callable[[], PageMaker] | None = None


def register_pages(load: Callable[[], PageMaker]) -> None:
    """Say who makes pages; `load` is called when the first page is asked for."""
    global _load
    _load = load


def page_maker() -> PageMaker:
    """Return who makes pages."""
    assert _load is not None, "importing cotrace registers the page"
    return _load()
