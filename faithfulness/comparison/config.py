"""Options of `compare`. Imports no torch."""

from dataclasses import dataclass
from typing import Any

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError

from ..evidence.plan import check_level
from ..report.schemas import QUICK


@dataclass(frozen=True)
class CompareConfig:
    """Options of `compare`.

    Attributes:
        evidence: "none", "quick" (at most 40 passes) or "full" (at most 240).
        foil: the other value of the answer's margin; None takes the likeliest alternative.
        alternatives: other values of stated values, as in `state_values`.
        seed: draws the edits.
        max_features: rows of the circuit.
        memory: limit in bytes, as in `Model.trace`.

    Raises:
        ArgumentError: an unknown level, no feature, or a negative seed.
    """

    evidence: str = QUICK
    foil: str | None = None
    alternatives: Any = None
    seed: int = 0
    max_features: int = 256
    memory: int | None = None

    def __post_init__(self) -> None:
        check_level(self.evidence)
        if as_index(self.max_features, "max_features") < 1:
            raise ArgumentError(
                f"max_features is {self.max_features}: the circuit needs the rows of at least one feature"
            )
        if as_index(self.seed, "seed") < 0:
            raise ArgumentError(f"seed is {self.seed}: give 0 or more")
