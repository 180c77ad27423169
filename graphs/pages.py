"""Interactive pages of graphs: the room that makes them comes later, and registers here how."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from .drawing.config import DrawingConfig

PAGE_HEIGHT = 720  # of the page in a notebook, in pixels


class PageMaker(Protocol):
    """What the room of the page offers: `viewer/page/pages.py`."""

    def write(
        self,
        subject: Any,
        path: Path,
        /,
        *,
        features: Any = None,
        names: Sequence[str] | None = None,
        drawing: DrawingConfig | None = None,
    ) -> Path:
        """Write the page of a graph, a report or a difference of graphs as one HTML file, and return its path."""
        ...

    def embed(self, subject: Any, /, *, features: Any = None, height: int = PAGE_HEIGHT) -> Any:
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
