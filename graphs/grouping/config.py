"""Options of suggested groups, with their defaults."""

from dataclasses import dataclass
from typing import Any

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError

SMALLEST_GROUP = 2


@dataclass(frozen=True)
class GroupConfig:
    """Options of `Graph.suggest_groups`.

    Args:
        target: the target on which effects of one group have one sign, as in `choose_targets`.
        similarity: the least mean similarity of two parts that are joined, above 0 and at most 1.
        max_size: the most features of a group, at least 2.
        max_features: the most features that are compared, the most influential ones, at least 2.

    Raises:
        ArgumentError: a value outside its range.
    """

    target: int | str | None = None
    similarity: float = 0.6
    max_size: int = 20
    max_features: int = 1000

    def __post_init__(self) -> None:
        if not _is_number(self.similarity) or not 0 < self.similarity <= 1:
            raise ArgumentError(f"similarity={self.similarity!r} is not above 0 and at most 1; the default is 0.6")
        for name in ("max_size", "max_features"):
            value = as_index(getattr(self, name), name)
            if value < SMALLEST_GROUP:
                raise ArgumentError(f"{name}={value} is too small: a group has at least {SMALLEST_GROUP} features")
            object.__setattr__(self, name, value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
