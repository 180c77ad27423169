"""A tokenized prompt together with the model that runs on it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.models.tokenizer import PromptTokenizer, TokenizablePrompt
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import resolve_position
from cotrace.graphs.segments import parse_segments, parse_span


class PromptTokens(NamedTuple):
    """A prompt as token ids, with the positions of its segments.

    Attributes:
        segments: positions of each segment, by name.
        shared: tokens whose visible characters lie in a segment and outside it, by the segment's name.
    """

    ids: list[int]
    segments: Mapping[str, tuple[int, ...]] = {}
    shared: Mapping[str, str] = {}

    @classmethod
    def read(cls, prompt: Any, tokenizer: PromptTokenizer, segments: Mapping[str, Any] | None = None) -> "PromptTokens":
        """Return the tokens of a prompt; a transcript has segments, to which `segments` are added.

        Raises PromptError for an invalid prompt, and ArgumentError for invalid segments.
        """
        if not isinstance(prompt, TokenizablePrompt):
            ids = tokenizer.encode(prompt)
            return cls(ids, parse_segments(segments, len(ids)))
        tokens = prompt.tokenize(tokenizer)
        ids, spans = tokens.token_ids, getattr(tokens, "spans", {})
        named = parse_segments(segments, len(ids))
        for name in named:
            if name in spans:
                raise ArgumentError(f"the transcript has a segment {name!r} already: choose another name in segments=")
        straddling = [each for each in getattr(tokens, "straddling", ()) if each.mixed]
        shared = {name: each.text for each in straddling for name in (each.segment, *each.others)}
        return cls(ids, {name: tuple(range(*span)) for name, span in spans.items()} | named, shared)

    def positions(self, where: Any, what: str, cure: str = "a Transcript, or segments=") -> tuple[int, ...]:
        """Return the positions of a span, ascending: a position, (start, stop), several positions, or a segment's name.

        `what` names the span in messages, and `cure` what has segments. Raises ArgumentError for a span that is empty, unordered or outside the prompt, for
        an unknown segment, and for one that shares a token with its neighbours.
        """
        if isinstance(where, str):
            return self._segment(where, what, cure)
        if not isinstance(where, tuple | range | slice | Mapping):
            several = isinstance(where, Iterable) and getattr(where, "ndim", 1) > 0
            listed = list(where) if several else [where]
            where = [resolve_position(each, len(self.ids), f"{what}: position") for each in listed]
            if where != sorted(where):
                raise ArgumentError(f"{what}: list positions in ascending order")
        return parse_span(where, len(self.ids), what)

    def _segment(self, name: str, what: str, cure: str) -> tuple[int, ...]:
        if name not in self.segments:
            known = ", ".join(map(repr, self.segments))
            raise ArgumentError(
                f"{what}: the prompt has no segment {name!r}; name one of {known}, or give a span (start, stop)"
                if known
                else f"{what}: no segment {name!r} in a prompt without segments; give a span (start, stop), {cure}"
            )
        if name in self.shared:
            raise ArgumentError(
                f"{what}: segment {name!r} shares the token {self.shared[name]!r} with its neighbour: move the boundary to "
                "that of a token, or give a span (start, stop)"
            )
        return self.segments[name]


@dataclass(frozen=True)
class PromptContext:
    """One prompt, its masked positions, and the model and transcoders that run on it.

    Attributes:
        ids_P: token ids (P,).
        masked: positions without features.
        tokens: the prompt's tokens and segments; by default those of `ids_P`, without segments.
    """

    weights: Gemma3
    transcoders: Transcoders
    tokenizer: PromptTokenizer
    ids_P: Tensor
    masked: MaskedPositions
    tokens: PromptTokens = field(default=PromptTokens([]))

    def __post_init__(self) -> None:
        if not self.tokens.ids:
            object.__setattr__(self, "tokens", PromptTokens(self.ids_P.tolist()))

    def __repr__(self) -> str:
        return f"<PromptContext of {self.n_positions} tokens, {len(self.masked.positions)} masked>"

    @property
    def n_positions(self) -> int:
        """Number of the prompt's tokens."""
        return len(self.ids_P)

    @property
    def n_layers(self) -> int:
        """Number of the model's layers."""
        return self.weights.architecture.n_layers

    def is_open(self, position: int) -> bool:
        """Return whether a position may carry features."""
        return position not in self.masked.positions
