"""Options of pictures, with their defaults."""

from dataclasses import dataclass

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError


@dataclass(frozen=True)
class DrawingConfig:
    """Limits on the part of a graph that a picture shows.

    Raises:
        ArgumentError: a limit that is not an integer or is too small.
    """

    max_nodes: int = 60
    """Show at most this many nodes, the features that matter most first; at least 2."""

    max_edges: int = 150
    """Show this many edges, those that carry the most influence, and the strongest edge out of each node; at least 1."""

    target: int | str | None = None
    """Text or node number of the target that the picture is about, or "all"; by default the one that weighs more than
    all others together, or else all."""

    def __post_init__(self) -> None:
        for name, least in (("max_nodes", 2), ("max_edges", 1)):
            value = as_index(getattr(self, name), name)
            if value < least:
                raise ArgumentError(f"invalid {name} {value}: a picture needs at least {least}")
            object.__setattr__(self, name, value)
