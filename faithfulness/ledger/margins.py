"""Stated values as targets: margins over one other value, and contrasts with the mean of all."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.attribution.tracing.targets import Target, with_direction
from cotrace.common.errors import ArgumentError

from ..transcripts import TokenizedTranscript
from ..transcripts.segment import as_content
from ..transcripts.tokenized import NO_CONTEXT, first_difference, tokens_of_alternatives


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


class StatedContrast(NamedTuple):
    """The contrast of a stated value: its logit minus the mean logit of its alternatives, where most of them first differ.

    A margin may stay positive while the model no longer tells the value from any other; a contrast is then near zero.

    Attributes:
        name: the segment that states the value.
        position: the position where the contrast is read.
        said: the token of the value.
        others: the tokens of the alternatives; empty for the whole vocabulary.
    """

    name: str
    position: int
    said: int
    others: tuple[int, ...]

    def target(self, weights: Gemma3) -> Target:
        """Return the contrast as a target of effects."""
        rows = weights.unembedding(torch.tensor([self.said, *self.others], device=weights.device))
        mean_D = rows[1:].mean(0) if self.others else weights.mean_unembedding_D
        return Target("direction", self.name, direction_D=rows[0] - mean_D, position=self.position)


def choose_contrasts(tokens: TokenizedTranscript, names: Sequence[str]) -> list[StatedContrast]:
    """Return the contrast of each named segment's value with its alternatives, or with the vocabulary if it has none."""
    contrasts = []
    for name in names:
        said, read = tokens.value_ids(name), tokens.read_position(name)
        pairs = list(_differences(said, tokens.foils(name)))
        split = Counter(split for split, _ in pairs).most_common(1)[0][0] if pairs else 0
        others = sorted({token for each, token in pairs if each == split})
        contrasts.append(StatedContrast(name, read + split, said[split], tuple(others)))
    return contrasts


def foil_tokens(
    foils: Mapping[str, str | Sequence[int]], tokens: TokenizedTranscript, tokenizer: PromptTokenizer
) -> dict[str, list[int]]:
    """Return the token ids of a user's foils, in the places of the values.

    Raises ArgumentError for a segment that states no value and for a foil with an unknown token, PromptError for a foil that
    shares a token with other text.
    """
    unknown = None if tokenizer.hf_tokenizer is None else tokenizer.hf_tokenizer.unk_token_id
    found = {}
    for name, foil in foils.items():
        content = as_content(foil, f"the foil of {name!r}")
        tokens.value_ids(name)
        (found[name],) = tokens_of_alternatives([content], tokens.contexts.get(name, NO_CONTEXT), tokenizer)
        if unknown in found[name]:
            raise ArgumentError(f"the tokenizer does not know the foil {foil!r} of {name!r}: give another one")
    return found


def choose_margins(
    weights: Gemma3,
    tokens: TokenizedTranscript,
    names: Sequence[str],
    resid_PD: Tensor,
    foils: Mapping[str, Sequence[int]] | None = None,
) -> list[StatedMargin]:
    """Return the margin of each named segment's value over the likeliest other value, or over a given one.

    The other values are the alternatives of the value, or those of the transcript; without any, all tokens. An alternative
    that the value begins with, or that begins with it, cannot be told apart at one token and is left out.

    Args:
        weights: the model.
        tokens: the transcript.
        names: segments that state a value.
        resid_PD: final residual streams of the prompt.
        foils: token ids of the other value, by segment.

    Raises:
        ArgumentError: no alternative, or not the foil, can be told apart from a value.
    """
    given = foils or {}
    return [_choose(weights, tokens, name, resid_PD, given.get(name)) for name in names]


def _choose(
    weights: Gemma3, tokens: TokenizedTranscript, name: str, resid_PD: Tensor, foil: Sequence[int] | None
) -> StatedMargin:
    said, read = tokens.value_ids(name), tokens.read_position(name)
    others = tokens.foils(name) if foil is None else [foil]
    if not others and not tokens.alternatives_of.get(name, tokens.alternatives):
        logits_V = weights.logits(resid_PD[[read]])[0]
        logits_V[said[0]] = -torch.inf
        return StatedMargin(name, read, said[0], int(logits_V.argmax()))
    pairs = sorted(set(_differences(said, others)))
    if not pairs:
        raise ArgumentError(
            f"no alternative differs from the value of {name!r} at one of its tokens: give other `alternatives=` or foil"
        )
    logits = {split: weights.logits(resid_PD[[read + split]])[0] for split in {split for split, _ in pairs}}
    split, token = max(pairs, key=lambda pair: float(logits[pair[0]][pair[1]] - logits[pair[0]][said[pair[0]]]))
    return StatedMargin(name, read + split, said[split], token)


def _differences(said: Sequence[int], others: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Yield, for each other value, the place of the first token that differs, and that token."""
    for other in others:
        place = first_difference(said, other)
        if place is not None:
            yield place, other[place]
