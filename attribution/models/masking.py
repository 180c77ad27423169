"""Masked positions: positions of a prompt that have no features."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError


@dataclass(frozen=True)
class MaskedPositions:
    """Positions without features, ascending; the first `constant_prefix` of them have no error nodes either."""

    positions: tuple[int, ...]
    constant_prefix: int

    @classmethod
    def choose(cls, requested: Sequence[int] | None, prefix: int, n_positions: int) -> "MaskedPositions":
        """Return the masked positions of a prompt: the requested ones, or else the constant prefix; always position 0.

        Args:
            requested: positions, or None for the default.
            prefix: length of the opening that all prompts share (`PromptTokenizer.constant_prefix_length`).
            n_positions: length of the prompt.

        Raises ArgumentError for positions outside the prompt.
        """
        if requested is None:
            requested = range(min(prefix, n_positions))
        if not isinstance(requested, Iterable):
            raise ArgumentError(f"invalid masked_positions {requested!r}: expected a list of positions")
        requested = [as_index(p, "a masked position") for p in requested]
        bad = [p for p in requested if not 0 <= p < n_positions]
        if bad:
            raise ArgumentError(
                f"masked position {bad[0]} is outside the prompt of {n_positions} tokens (0 … {n_positions - 1})"
            )
        positions = tuple(sorted({0, *requested}))
        leading = next((i for i, p in enumerate(positions) if i != p), len(positions))
        return cls(positions, min(leading, prefix))

    def open_positions(self, n_positions: int, device: torch.device) -> Tensor:
        """Return the positions that may have features, ascending, int64."""
        return torch.tensor([p for p in range(n_positions) if p not in self.positions], dtype=torch.long, device=device)
