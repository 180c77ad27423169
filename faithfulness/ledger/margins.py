"""Stated values as targets: each a margin, the logit of a token that is said minus that of a token that is not."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.tracing.targets import Target, with_direction
from cotrace.common.errors import ArgumentError

from ..transcripts import TokenizedTranscript
from ..transcripts.tokenized import first_difference


class StatedMargin(NamedTuple):
    """The margin of a stated value: its logit minus that of the foil, at the first token where the two differ.

    Attributes:
        name: the segment that states the value.
        position: the position where the margin is read, one before the token.
        said: the token of the value.
        foil: the token of the other value.
    """

    name: str
    position: int
    said: int
    foil: int

    def target(self, weights: Gemma3) -> Target:
        """Return the margin as a target of effects."""
        target = Target("difference", self.name, token_ids=(self.said, self.foil), position=self.position)
        return with_direction(target, weights)


def choose_margins(
    weights: Gemma3, tokens: TokenizedTranscript, names: Sequence[str], resid_PD: Tensor
) -> list[StatedMargin]:
    """Return the margin of each named segment's value over the likeliest other value.

    The other values are the alternatives of the value, or those of the transcript; without any, all tokens. An alternative
    that the value begins with, or that begins with it, cannot be told apart at one token and is left out.

    Args:
        weights: the model.
        tokens: the transcript.
        names: segments that state a value.
        resid_PD: final residual streams of the prompt.

    Raises:
        ArgumentError: no alternative can be told apart from a value.
    """
    return [_choose(weights, tokens, name, resid_PD) for name in names]


def _choose(weights: Gemma3, tokens: TokenizedTranscript, name: str, resid_PD: Tensor) -> StatedMargin:
    said, read = tokens.value_ids(name), tokens.read_position(name)
    if not tokens.alternatives_of.get(name, tokens.alternatives):
        logits_V = weights.logits(resid_PD[[read]])[0]
        logits_V[said[0]] = -torch.inf
        return StatedMargin(name, read, said[0], int(logits_V.argmax()))
    pairs = sorted(set(_differences(said, tokens.foils(name))))
    if not pairs:
        raise ArgumentError(
            f"no alternative differs from the value of {name!r} at one of its tokens: give the transcript `values=` that do"
        )
    logits = {split: weights.logits(resid_PD[[read + split]])[0] for split in {split for split, _ in pairs}}
    split, foil = max(pairs, key=lambda pair: float(logits[pair[0]][pair[1]] - logits[pair[0]][said[pair[0]]]))
    return StatedMargin(name, read + split, said[split], foil)


def _differences(said: Sequence[int], others: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Yield, for each other value, the place of the first token that differs, and that token."""
    for other in others:
        place = first_difference(said, other)
        if place is not None:
            yield place, other[place]
