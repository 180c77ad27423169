"""What can be asked of a trace, checked before anything is computed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cotrace.common.checks import as_index
from cotrace.common.errors import CotraceError

from .row_selection import RowBudget


@dataclass(frozen=True)
class Options:
    """The options of `Model.trace`, with its defaults. Raises ValueError for those that make no sense."""

    position: Any = -1  # an integer or several
    max_targets: int = 10
    target_mass: float = 0.95
    coverage: float = 1.0
    max_features: int | None = None
    max_seconds: float | None = None
    masked_positions: Sequence[int] | None = None
    batch_size: int | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        self.limits  # noqa: B018 - raises
        if as_index(self.max_targets, "max_targets") < 1:
            raise CotraceError(f"max_targets is {self.max_targets}; ask for at least 1")
        if not 0 < self.target_mass <= 1:
            raise CotraceError(
                f"target_mass is {self.target_mass}: it is a share of the probability, above 0 and at most 1"
            )
        if self.batch_size is not None and as_index(self.batch_size, "batch_size") < 1:
            raise CotraceError(f"batch_size is {self.batch_size}; use at least 1, or None")
        if self.memory is not None and as_index(self.memory, "memory") < 1:
            raise CotraceError(f"memory is {self.memory}; it is a number of bytes, or None for what is free")

    @property
    def limits(self) -> RowBudget:
        """What ends the expansion."""
        return RowBudget(self.coverage, self.max_features, self.max_seconds)

    def positions(self, n_positions: int) -> list[int]:
        """Where targets are read, counted from the start, ascending, each once."""
        if not isinstance(self.position, Iterable) or getattr(self.position, "ndim", 1) == 0:
            return [_resolve(self.position, n_positions)]
        if isinstance(self.position, range) and self.position:  # may be far longer than any prompt
            _resolve(self.position[0], n_positions), _resolve(self.position[-1], n_positions)
        found = sorted({_resolve(one, n_positions) for one in self.position})
        if not found:
            raise CotraceError("position is an empty list; name at least one, or leave it out for the last")
        return found


def _resolve(position: int, n_positions: int) -> int:
    position = as_index(position, "position")
    if not -n_positions <= position < n_positions:
        raise CotraceError(
            f"position {position} is outside the prompt of {n_positions} tokens ({-n_positions} … {n_positions - 1})"
        )
    return position % n_positions
