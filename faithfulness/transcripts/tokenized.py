"""Token ids of a transcript, and the tokens of each segment and value. Imports no torch.

Text segments that follow one another are tokenized as one text, so that a prompt has the same tokens with and without
segments. A token belongs to the segment that holds its first character that is not white space; a token of white
space to the segment that holds its first character. This way " step" belongs to the segment that begins with "step", also
if the space ends the segment before it. Tokens whose characters lie in several segments are listed in `straddling`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, NamedTuple

from cotrace.common.errors import ArgumentError, PromptError, warn

from .offsets import Span, StraddlingToken, grow_to_tokens, owners, straddling_tokens, tokens_of_value
from .segment import Content, Segment, stripped

if TYPE_CHECKING:
    from cotrace.attribution.models.tokenizer import PromptTokenizer


CONTEXT_TOKENS = 4  # at each side of a value, where alternatives are tokenized in its place


@dataclass(frozen=True)
class TokenizedTranscript:
    """A transcript as the tokens of a model.

    Attributes:
        token_ids: the prompt, with one BOS in front, which is in no segment. None is added in front of a first segment of
            token ids, as in other prompts.
        spans: positions (start, stop) of each segment, by name. A segment of role "text" that has no token is left out.
        value_spans: positions (start, stop) of each value, by the name of its segment, without tokens of white space at
            its ends.
        straddling: tokens whose characters lie in several segments, with the segment that each was assigned to.
        alternatives: token ids of each of the transcript's `values`, as they are in the place of the last value that is
            stated; without context if none is.
        contexts: the text around each value, by the name of its segment; none for values of token ids.
        alternatives_of: for segments with alternatives of their own, the token ids of these, instead of `alternatives`.
    """

    token_ids: list[int]
    spans: dict[str, Span]
    value_spans: dict[str, Span]
    straddling: list[StraddlingToken]
    alternatives: list[list[int]]
    contexts: dict[str, "Context"] = field(default_factory=dict, repr=False)
    alternatives_of: Mapping[str, list[list[int]]] = field(default_factory=dict)

    def read_position(self, name: str) -> int:
        """Return the position at which the first token of a segment's value is predicted: the one before it.

        Raises ArgumentError for a segment without a value, and for a value at the start of the prompt.
        """
        start, _ = self._value_span(name)
        if start == 0:
            raise ArgumentError(
                f"the value of {name!r} is the first token, which nothing predicts: put text in front of it"
            )
        return start - 1

    def value_ids(self, name: str) -> list[int]:
        """Return the token ids of a segment's value. Raises ArgumentError for a segment without one."""
        return self.token_ids[slice(*self._value_span(name))]

    def foils(self, name: str) -> list[list[int]]:
        """Return the alternatives other than the value of a segment. Raises ArgumentError for a segment without a value."""
        said = self.value_ids(name)
        return [ids for ids in self.alternatives_of.get(name, self.alternatives) if ids != said]

    def _value_span(self, name: str) -> Span:
        if name not in self.value_spans:
            known = f"those with a value are {', '.join(map(repr, self.value_spans)) or 'none'}"
            raise ArgumentError(f"{name!r} is no segment with a value: {known}")
        return self.value_spans[name]


class Context(NamedTuple):
    """The text around a value, of a few tokens at each side, and these tokens.

    Attributes:
        before, after: the text.
        left, right: its tokens, where each value that takes this place leaves them as they are.
    """

    before: str
    after: str
    left: tuple[int, ...]
    right: tuple[int, ...]


NO_CONTEXT = Context("", "", (), ())


class Piece(NamedTuple):
    """A part of the prompt: a segment, or text of a chat template, which has an empty name.

    Attributes:
        content: text or token ids.
        value_range: the (start, stop) of its value in `content`.
        required: whether it must have a token.
    """

    name: str
    content: Content
    value_range: Span | None = None
    required: bool = False

    @classmethod
    def of(cls, segment: Segment) -> "Piece":
        """Return a segment as a part of the prompt."""
        return cls(segment.name, segment.text, segment.value_range, segment.role != "text")


class TextRun(NamedTuple):
    """Neighbouring parts of the prompt that are texts, tokenized as one, without BOS.

    Attributes:
        pieces: the parts, with their first characters in `text`.
        text: the text.
        ids: its tokens.
        offsets: the characters that each token covers.
    """

    pieces: list[tuple[Piece, int]]
    text: str
    ids: list[int]
    offsets: list[Span]

    @classmethod
    def of(cls, pieces: Sequence[Piece], is_first: bool, tokenizer: "PromptTokenizer") -> "TextRun":
        """Return texts as one; at the start of the prompt, a BOS that is written out is left out."""
        text = "".join(str(piece.content) for piece in pieces)
        starts = accumulate((len(piece.content) for piece in pieces), initial=0)
        ((ids, offsets),) = tokenizer.encode_with_offsets([text])
        skipped = int(is_first and ids[:1] == [tokenizer.bos_id])
        return cls(list(zip(pieces, starts, strict=False)), text, ids[skipped:], offsets[skipped:])

    @property
    def ends(self) -> list[int]:
        """Where each part ends in the text."""
        return [start + len(piece.content) for piece, start in self.pieces]

    def context(self, low: int, high: int, tokens: Span) -> Context:
        """Return what stands around some characters, which are those of some tokens."""
        start, stop = tokens
        left, right = max(0, start - CONTEXT_TOKENS), min(len(self.ids), stop + CONTEXT_TOKENS)
        after = self.text[high : self.offsets[right][0] if right < len(self.ids) else None]
        before = self.text[self.offsets[left][0] : low]
        return Context(before, after, tuple(self.ids[left:start]), tuple(self.ids[stop:right]))


NO_RUN = TextRun([], "", [], [])


def tokenize_pieces(
    pieces: Sequence[Piece], values: Sequence[Content], tokenizer: "PromptTokenizer"
) -> TokenizedTranscript:
    """Return the tokens of the parts of a prompt, in order. Raises PromptError as `Transcript.tokenize` says."""
    prompt = TokenizedTranscript([], {}, {}, [], [])
    for is_text, group in groupby(pieces, _is_text):
        if is_text:
            _add_text(prompt, TextRun.of(list(group), not prompt.token_ids, tokenizer), tokenizer.bos_id)
        else:
            for piece in group:
                _add_ids(prompt, piece, tokenizer)
    _check(prompt, pieces)
    context = list(prompt.contexts.values())[-1] if prompt.contexts else NO_CONTEXT
    prompt.alternatives.extend(tokens_of_alternatives(values, context, tokenizer))
    return prompt


def whole_token_ranges(pieces: Sequence[Piece], tokenizer: "PromptTokenizer") -> dict[str, Span]:
    """Return the value's range in each text that has one, grown to the visible characters of whole tokens.

    A value is left out if one of its tokens holds visible characters of another part, and if it has no token.
    """
    ranges = {}
    for is_text, group in groupby(pieces, _is_text):
        run = TextRun.of(list(group), False, tokenizer) if is_text else NO_RUN
        for piece, start in run.pieces:
            if piece.value_range is None:
                continue
            grown = grow_to_tokens(run.text, _moved(piece.value_range, start), run.offsets)
            if grown is not None and start <= grown[0] and grown[1] <= start + len(piece.content):
                ranges[piece.name] = _moved(grown, -start)
    return ranges


def in_place(values: Sequence[str], context: Context, tokenizer: "PromptTokenizer") -> list[tuple[int, ...] | None]:
    """Return the token ids of each value in a context; None for one that changes the tokens around it."""
    left, right = context.left, context.right
    found: list[tuple[int, ...] | None] = []
    texts = [context.before + value + context.after for value in values]
    for ids, _ in tokenizer.encode_with_offsets(texts) if texts else []:
        stop = len(ids) - len(right)
        fits = stop > len(left) and tuple(ids[: len(left)]) == left and tuple(ids[stop:]) == right
        found.append(tuple(ids[len(left) : stop]) if fits else None)
    return found


def _add_ids(prompt: TokenizedTranscript, piece: Piece, tokenizer: "PromptTokenizer") -> None:
    """Add a part that is given as token ids."""
    ids = [int(token) for token in piece.content]
    tokenizer.check_ids(ids)
    first = len(prompt.token_ids)
    prompt.token_ids.extend(ids)
    has_bos = first == 0 and ids[0] == tokenizer.bos_id
    if len(ids) > has_bos:
        prompt.spans[piece.name] = (first + has_bos, first + len(ids))
    if piece.value_range is not None:
        start, stop = piece.value_range
        prompt.value_spans[piece.name] = (first + start, first + stop)


def _add_text(prompt: TokenizedTranscript, run: TextRun, bos_id: int | None) -> None:
    """Add parts that are tokenized as one text."""
    if not prompt.token_ids and bos_id is not None:
        prompt.token_ids.append(bos_id)
    first = len(prompt.token_ids)
    prompt.token_ids.extend(run.ids)
    names, text, offsets, ends = [piece.name for piece, _ in run.pieces], run.text, run.offsets, run.ends
    for token, owner in enumerate(owners(text, offsets, ends), first):
        if name := names[owner]:
            prompt.spans[name] = (prompt.spans.get(name, (token, token))[0], token + 1)
    prompt.straddling.extend(straddling_tokens(text, offsets, ends, names, first))
    for piece, start in run.pieces:
        if piece.value_range is not None:
            low, high = _moved(piece.value_range, start)
            tokens = tokens_of_value(text, (low, high), offsets, f"the value {text[low:high]!r} of {piece.name!r}")
            prompt.value_spans[piece.name] = _moved(tokens, first)
            prompt.contexts[piece.name] = run.context(low, high, tokens)


def tokens_of_alternatives(
    values: Sequence[Content], context: Context, tokenizer: "PromptTokenizer"
) -> Iterator[list[int]]:
    """Yield the token ids of values in a context. Raises PromptError for one that shares a token with the text around it."""
    before, after = context.before, context.after
    spelled = {value: stripped(value) if before else value for value in values if isinstance(value, str)}
    texts = [before + bare + after for bare in spelled.values()]
    encoded = dict(zip(spelled, tokenizer.encode_with_offsets(texts) if texts else [], strict=True))
    for value in values:
        if isinstance(value, str):
            ids, offsets = encoded[value]
            span = (len(before), len(before + spelled[value]))
            text = before + spelled[value] + after
            start, stop = tokens_of_value(text, span, offsets, f"the alternative {value!r}")
            yield ids[start:stop]
        else:
            tokenizer.check_ids(value)
            yield list(value)


def _is_text(piece: Piece) -> bool:
    return isinstance(piece.content, str)


def _moved(span: Span, by: int) -> Span:
    return span[0] + by, span[1] + by


def _check(prompt: TokenizedTranscript, pieces: Sequence[Piece]) -> None:
    """Raise PromptError for a segment without a token, and warn of a token with text of several segments."""
    for piece in pieces:
        if piece.required and piece.name not in prompt.spans:
            raise PromptError(f"no token begins in the segment {piece.name!r}: join it with the segment before it")
    for token in prompt.straddling:
        if token.mixed:
            others = ", ".join(map(repr, token.others))
            warn(
                f"the token {token.text!r} at position {token.position} holds text of {token.segment!r} and {others}; it is "
                "counted in the first, see `straddling` of the tokenized transcript"
            )


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Return how many first tokens two values share; None if one begins with the other."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
