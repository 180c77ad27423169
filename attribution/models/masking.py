"""Positions of a prompt that carry no features."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cotrace.common.checks import as_index
from cotrace.common.errors import CotraceError


@dataclass(frozen=True)
class MaskedPositions:
    """Positions without features: a constant prefix, and others whose error nodes keep edges."""

    positions: tuple[int, ...]
    constant_prefix: int

    @classmethod
    def choose(cls, requested: Sequence[int] | None, prefix: int, n_positions: int) -> "MaskedPositions":
        """Default: the constant prefix. Position 0 is always masked.

        Raises ValueError for positions outside the prompt.
        """
        if requested is None:
            requested = range(min(prefix, n_positions))
        if not isinstance(requested, Iterable):
            raise CotraceError(f"masked_positions is a list of positions, not {requested!r}")
        requested = [as_index(p, "a masked position") for p in requested]
        bad = [p for p in requested if not 0 <= p < n_positions]
        if bad:
            raise CotraceError(
                f"masked position {bad[0]} is outside the prompt of {n_positions} tokens (0 … {n_positions - 1})"
            )
        positions = tuple(sorted({0, *requested}))
        leading = next((i for i, p in enumerate(positions) if i != p), len(positions))
        return cls(positions, min(leading, prefix))

    def open_positions(self, n_positions: int, device: torch.device) -> Tensor:
        """Positions that may carry features, ascending."""
        return torch.tensor([p for p in range(n_positions) if p not in self.positions], dtype=torch.long, device=device)
