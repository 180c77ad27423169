"""The options of a trace: each default exists here and nowhere else. Imports no torch."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import resolve_position

SelectBy = Literal["influence", "effect"]
SELECT_CHOICES: tuple[SelectBy, ...] = get_args(SelectBy)
SAMPLING_OPTIONS = ("sampled", "seed", "standard_error")


@dataclass(frozen=True)
class RowBudget:
    """Limits of the rows that are computed; the options of the same names in `TraceConfig`.

    Raises:
        ArgumentError: a limit has the wrong type or is out of range.
    """

    coverage: float = 1.0
    max_features: int | None = None
    max_seconds: float | None = None
    select: SelectBy = "influence"
    sampled: bool = False
    seed: int = 0
    standard_error: float | None = None

    def __post_init__(self) -> None:
        if self.select not in SELECT_CHOICES:
            raise ArgumentError(f"select={self.select!r} is not one of {', '.join(SELECT_CHOICES)}")
        # Numbers of other libraries become Python's own: they are saved as JSON.
        object.__setattr__(self, "coverage", float(self.coverage))
        if not 0 < self.coverage <= 1:
            raise ArgumentError(
                f"coverage is {self.coverage}: it is a share of the {self.select}, above 0 and at most 1"
            )
        if self.max_features is not None:
            object.__setattr__(self, "max_features", as_index(self.max_features, "max_features"))
            if self.max_features < 0:
                raise ArgumentError(f"max_features is {self.max_features}: it must be at least 0")
        if self.max_seconds is not None:
            object.__setattr__(self, "max_seconds", float(self.max_seconds))
            if not 0 < self.max_seconds < math.inf:
                raise ArgumentError(f"max_seconds is {self.max_seconds}: it must be above 0, or left out for no limit")
        self._check_sampling()

    def _check_sampling(self) -> None:
        """Raise ArgumentError for options of sampling that are invalid or do not go together."""
        object.__setattr__(self, "seed", as_index(self.seed, "seed"))
        if self.seed < 0:
            raise ArgumentError(f"seed is {self.seed}: it must be at least 0")
        if self.standard_error is not None:
            object.__setattr__(self, "standard_error", float(self.standard_error))
            if not 0 < self.standard_error < 1:
                raise ArgumentError(
                    f"standard_error is {self.standard_error}: it is that of a share of the influence, above 0 and below 1"
                )
        if not self.sampled:
            if self.standard_error is not None or self.seed != 0:
                raise ArgumentError(
                    "seed= and standard_error= are for rows drawn at random: add sampled=True, or omit them"
                )
            return
        if self.coverage < 1:
            raise ArgumentError(
                "coverage skips the least influential rows and sampled=True draws them: choose one of them"
            )
        if self.select != "influence":
            raise ArgumentError(f'select="{self.select}" chooses rows and sampled=True draws them: choose one of them')
        if self.max_features is None and self.max_seconds is None and self.standard_error is None:
            raise ArgumentError(
                "sampled=True needs a limit: max_features=, max_seconds= or standard_error=; without one every row is computed"
            )

    def settings(self) -> dict[str, Any]:
        """Return the options as a graph records them: those of sampling only where rows are drawn."""
        left_out = () if self.sampled else SAMPLING_OPTIONS
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    @property
    def all_rows(self) -> bool:
        """True if every row is computed."""
        limits = self.max_features, self.max_seconds, self.standard_error
        return self.coverage == 1 and all(limit is None for limit in limits)


@dataclass(frozen=True)
class TraceConfig:
    """Options of `Model.trace`, with their defaults.

    Attributes:
        position: position at which the targets are read, or several (list, range, 1-D array). Negative positions count
            from the end of the prompt. The targets of all positions are traced together, in one graph.
        max_targets: largest number of target tokens per position when no targets are given.
        target_mass: stop adding target tokens once they hold this share of the next-token probability, in (0, 1]. Only
            used when no targets are given.
        coverage: compute rows until the features without a row hold at most `1 - coverage` of the influence, in
            (0, 1]. 1 computes every row.
        max_features: largest number of features whose rows are computed; None for no limit. Features that are targets
            always get their row.
        max_seconds: stop computing rows after about this many seconds; None for no limit. Which rows are computed then
            depends on the speed of the machine.
        masked_positions: positions without features. None masks position 0, and the first four positions of a chat.
            Position 0 is always masked.
        batch_size: number of rows that are computed at once; None chooses the fastest that fits into memory. It changes
            results by rounding only.
        memory: limit for the memory of the process (on a GPU: of the device) in bytes; None for all that is free. A
            trace that needs more uses smaller batches and recomputes vectors instead of storing them.
        select: what decides which rows a limit keeps: the influence of features over the rows computed so far, or their
            total effect on the targets, which is known before the first row.
        sampled: draw rows at random with known probabilities instead of keeping the most influential ones. Influences are
            then unbiased estimates with standard errors, also where few rows are computed. Needs a limit: `max_features`,
            `max_seconds` or `standard_error`.
        seed: decides which rows are drawn, with `sampled`.
        standard_error: with `sampled`, draw rows until the largest standard error of a share of `Graph.shares` is expected
            to be at most this.
        effects: save effects on the targets with the nodes of the graph.

    Raises:
        ArgumentError: an option has the wrong type or is out of range.
    """

    position: int | Sequence[int] = -1
    max_targets: int = 10
    target_mass: float = 0.95
    coverage: float = RowBudget.coverage
    max_features: int | None = RowBudget.max_features
    max_seconds: float | None = RowBudget.max_seconds
    masked_positions: Sequence[int] | None = None
    batch_size: int | None = None
    memory: int | None = None
    select: SelectBy = RowBudget.select
    effects: bool = True
    sampled: bool = RowBudget.sampled
    seed: int = RowBudget.seed
    standard_error: float | None = RowBudget.standard_error

    def __post_init__(self) -> None:
        _ = self.row_budget  # raises
        if self.select == "effect" and not self.effects:
            raise ArgumentError('select="effect" needs the effects on the targets: do not turn them off')
        if as_index(self.max_targets, "max_targets") < 1:
            raise ArgumentError(f"max_targets is {self.max_targets}: it must be at least 1")
        if not 0 < self.target_mass <= 1:
            raise ArgumentError(
                f"target_mass is {self.target_mass}: it is a share of the probability, above 0 and at most 1"
            )
        if self.batch_size is not None and as_index(self.batch_size, "batch_size") < 1:
            raise ArgumentError(f"batch_size is {self.batch_size}: it must be at least 1, or None to choose for speed")
        if self.memory is not None and as_index(self.memory, "memory") < 1:
            raise ArgumentError(f"memory is {self.memory}: it must be at least 1 byte; omit it for all that is free")

    @property
    def row_budget(self) -> RowBudget:
        """Limits of the number of rows, and how rows are chosen."""
        chosen = self.coverage, self.max_features, self.max_seconds, self.select
        return RowBudget(*chosen, self.sampled, self.seed, self.standard_error)

    def target_positions(self, n_positions: int) -> list[int]:
        """Return the positions of the targets in a prompt of `n_positions` tokens, ascending, without duplicates.

        Raises ArgumentError for a position outside the prompt, and for an empty list.
        """
        position: Any = self.position
        if not isinstance(position, Iterable) or getattr(position, "ndim", 1) == 0:
            return [resolve_position(position, n_positions)]
        if isinstance(position, range) and position:  # may be far longer than any prompt
            resolve_position(position[0], n_positions), resolve_position(position[-1], n_positions)
        positions = sorted({resolve_position(each, n_positions) for each in position})
        if not positions:
            raise ArgumentError("position is an empty list: name at least one, or omit it for the last position")
        return positions
