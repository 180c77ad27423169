"""Options of a validation, with their defaults. Imports no torch."""

from dataclasses import dataclass

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError


@dataclass(frozen=True)
class ValidationConfig:
    """Options of a validation: the numbers of ablated nodes, controls and paths.

    Attributes:
        nodes: number of the most influential features that are ablated one by one.
        sample: number of features drawn at random from the whole graph. A correlation over the most influential ones
            alone would cover a small part of the range.
        controls: number of controls for each set of nodes: as many random active features of similar sizes.
        paths: number of the strongest paths whose features are ablated together.
        seed: seed of the draws.

    Raises:
        ArgumentError: a number that is not an integer, or is too small.
    """

    nodes: int = 60
    sample: int = 60
    controls: int = 3
    paths: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("nodes", 1), ("sample", 1), ("controls", 1), ("paths", 0), ("seed", 0)):
            if as_index(getattr(self, name), name) < least:
                raise ArgumentError(f"{name} is {getattr(self, name)}; use at least {least}")
