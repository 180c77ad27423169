"""Find the values that the segments of a transcript state, and alternatives: other values that may take their place.

A value consists of whole tokens: if a tokenizer joins other characters to it, it is extended by them. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from cotrace.common.errors import ArgumentError, PromptError

from .alternatives import GIVEN, AlternativeFinder, Alternatives, check_alternatives
from .offsets import Span
from .segment import Segment
from .tokenized import TokenizedTranscript, whole_token_ranges
from .transcript import Transcript, tokenizer_of
from .value_rules import FoundValue, core_of, find_value, find_value_like
from .words import kind_of

if TYPE_CHECKING:
    from cotrace.attribution.models.tokenizer import PromptTokenizer
    from cotrace.faithfulness.model_like import ModelLike

LAST_TOKEN = "last token"
# Why a segment states no value.
NOT_OF_KIND, NOTHING_FOUND = "no value of the answer's kind", "no number and no content word"
LATER = "it follows the answer"
SHARED = "a token of its value has text of another segment too; move the boundary of the segments"
FIRST = "its value is the first token, which nothing predicts; put text in front of it"
UNKNOWN = "the model's tokenizer does not know a token of its value; write it in other words"
STATING_ROLES = ("hint", "step", "answer")


@dataclass(frozen=True)
class StatedValue:
    """A value that a segment states, and its alternatives.

    Attributes:
        name: name of the segment.
        text: the value.
        rule: the rule that found it: "given", "last number", "last word", "last symbol" or "last token".
        kind: "number", "letter A", "word Aa", the name of a closed class, "phrase" and so on.
        alternatives: token ids of the values that may take its place, each different from it at some token.
        texts: the texts of the alternatives, in the same order.
        alternatives_rule: the rule that found them; None if there is none.
        reason: why there is no alternative; empty if there is one.
        is_open: whether other values of the kind may exist, such as words that the transcript does not contain.
    """

    name: str
    text: str
    rule: str
    kind: str
    alternatives: tuple[tuple[int, ...], ...] = ()
    texts: tuple[str, ...] = ()
    alternatives_rule: str | None = None
    reason: str = ""
    is_open: bool = False


@dataclass(frozen=True)
class StatedTranscript:
    """A transcript whose segments state values, in the tokens of a model.

    Attributes:
        transcript: the transcript, whose segments have the values that they state.
        tokens: its tokens. `tokens.alternatives_of` has the alternatives of each value, `tokens.alternatives` all of them together
            with the values.
        values: the stated values by segment, in order.
        without: why a hint, step or answer states no value, by segment.
    """

    transcript: Transcript
    tokens: TokenizedTranscript
    values: Mapping[str, StatedValue]
    without: Mapping[str, str]


class _Place(NamedTuple):
    """The place of a value in a segment, in characters or ids, and the rule that found it."""

    span: Span
    rule: str


def state_values(
    transcript: Transcript, model: "ModelLike | PromptTokenizer", alternatives: Alternatives | None = None
) -> StatedTranscript:
    """Return a transcript with the values that its hints, steps and answers state, and alternatives of each.

    A given value is kept. Otherwise a step or answer states its last number, or without one its last content word; a hint states
    its last value of the answer's kind. Alternatives are those given in `alternatives`, or without them the transcript's
    `values`, or without these other values of the same kind that have as many tokens in this place.

    Args:
        transcript: has an answer that states a value.
        model: a model, or its tokenizer.
        alternatives: other values, as texts or token ids: a list for all segments, or a mapping from names of segments
            to lists. For segments that the mapping lacks, alternatives are found as if none were given.

    Raises:
        ArgumentError: no answer, an answer without a value, alternatives of an unknown segment, or alternatives of which none
            differs from the value.
        PromptError: a prompt that is longer than the model's context, or an answer whose value cannot be measured, for example
            because it shares a token with another segment.
    """
    tokenizer = tokenizer_of(model)
    answer = transcript.require_answer()
    texts = {segment.name: segment_text(segment, tokenizer) for segment in transcript.segments}
    places, without = _find_places(transcript, answer, texts, tokenizer)
    usable, unusable = _usable_places(transcript, places, tokenizer)
    if answer.name in unusable:
        raise PromptError(f"the answer {texts[answer.name]!r} states no value: {unusable[answer.name]}")
    valued = _with_places(transcript, usable)
    tokens = valued.tokenize(tokenizer)
    _check_length(tokens, model)
    said = {name: texts[name][slice(*span)] for name, span in _character_spans(valued, tokenizer).items()}
    finder = AlternativeFinder(tokens, tokenizer, list(texts.values()), said)
    given = check_alternatives(valued, alternatives)
    values = {}
    for name, text in said.items():
        if name not in given:
            found = finder.find(name)
        else:
            is_needed = name == answer.name or isinstance(alternatives, Mapping)
            found = finder.given(name, given[name], _affixes(valued[name], places[name].span), is_needed)
        kind = kind_of(text[slice(*core_of(text))])
        values[name] = StatedValue(name, text, places[name].rule, kind, *found)
    return StatedTranscript(valued, _with_alternatives(tokens, values), values, without | unusable)


def tokenized(
    transcript: Transcript | StatedTranscript, model: "ModelLike | PromptTokenizer"
) -> tuple[Transcript, TokenizedTranscript]:
    """Return a transcript and its tokens; the tokens have the alternatives of each value if `state_values` found them."""
    if isinstance(transcript, StatedTranscript):
        return transcript.transcript, transcript.tokens
    return transcript, transcript.tokenize(model)


# --- where values stand ---------------------------------------------------------------------------


def segment_text(segment: Segment, tokenizer: "PromptTokenizer") -> str:
    """Return the text of a segment; token ids are decoded one by one."""
    return segment.text if isinstance(segment.text, str) else "".join(map(tokenizer.decode_token, segment.text))


def _find_places(
    transcript: Transcript, answer: Segment, texts: Mapping[str, str], tokenizer: "PromptTokenizer"
) -> tuple[dict[str, _Place], dict[str, str]]:
    """Return where segments state a value, and why the other hints, steps and answers state none."""
    places: dict[str, _Place] = {}
    without: dict[str, str] = {}
    found = _find_place(answer, find_value(texts[answer.name], anything=True), tokenizer)
    if found is None:
        raise ArgumentError(f"the answer {texts[answer.name]!r} states no value: give it one that its text contains")
    start, stop = _in_characters(answer, found.span, tokenizer)
    said = texts[answer.name][start:stop].strip()
    like, is_later = said[slice(*core_of(said))], False
    for segment in transcript.segments:
        if segment is answer:
            places[segment.name], is_later = found, True
        elif segment.value is not None or (segment.role in STATING_ROLES and not is_later):
            is_hint, text = segment.role == "hint", texts[segment.name]
            place = _find_place(segment, find_value_like(text, like) if is_hint else find_value(text), tokenizer)
            if place is not None:
                places[segment.name] = place
            else:
                without[segment.name] = NOT_OF_KIND if is_hint else NOTHING_FOUND
        elif segment.role in STATING_ROLES:
            without[segment.name] = LATER
    return places, without


def _find_place(segment: Segment, found: FoundValue | None, tokenizer: "PromptTokenizer") -> _Place | None:
    """Return where a segment's value stands: its own, else the one that was found in its text; None without either."""
    if segment.value_range is not None:
        return _Place(segment.value_range, GIVEN)
    if isinstance(segment.text, str):
        return None if found is None else _Place(found.span, found.rule)
    if tokenizer.hf_tokenizer is None:
        n_ids = len(segment.text)
        return _Place((n_ids - 1, n_ids), LAST_TOKEN) if segment.role == "answer" else None
    if found is None:
        return None
    offsets = _token_offsets(segment.text, tokenizer)
    held = [n for n, (first, last) in enumerate(offsets) if first < found.span[1] and last > found.span[0]]
    return _Place((held[0], held[-1] + 1), found.rule)


def _character_spans(transcript: Transcript, tokenizer: "PromptTokenizer") -> dict[str, Span]:
    """Return the characters of each value in the text of its segment, by segment, in order."""
    ranges = {segment.name: (segment, segment.value_range) for segment in transcript.segments}
    return {name: _in_characters(each, span, tokenizer) for name, (each, span) in ranges.items() if span is not None}


def _in_characters(segment: Segment, span: Span, tokenizer: "PromptTokenizer") -> Span:
    """Return a span of characters or ids in characters of the segment's text."""
    if isinstance(segment.text, str):
        return span
    offsets = _token_offsets(segment.text, tokenizer)
    return offsets[span[0]][0], offsets[span[1] - 1][1]


def _token_offsets(ids: tuple[int, ...], tokenizer: "PromptTokenizer") -> list[Span]:
    """Return the characters that each token covers in the text of all."""
    ends = list(accumulate(len(tokenizer.decode_token(token)) for token in ids))
    return list(zip([0, *ends], ends, strict=False))


def _with_places(transcript: Transcript, places: Mapping[str, _Place]) -> Transcript:
    """Return the transcript with exactly these values."""
    return transcript.with_segments(
        _with_value(segment, places[segment.name].span) if segment.name in places else replace(segment, value=None)
        for segment in transcript.segments
    )


def _usable_places(
    transcript: Transcript, places: Mapping[str, _Place], tokenizer: "PromptTokenizer"
) -> tuple[dict[str, _Place], dict[str, str]]:
    """Return where values stand, extended to whole tokens, and why the others cannot be targets, by segment."""
    spans = {name: place.span for name, place in places.items() if not isinstance(transcript[name].text, str)}
    spans |= whole_token_ranges(_with_places(transcript, places).pieces(tokenizer), tokenizer)
    grown = {name: place._replace(span=spans[name]) for name, place in places.items() if name in spans}
    tokens = _with_places(transcript, grown).tokenize(tokenizer)
    unusable = dict.fromkeys(places.keys() - spans.keys(), SHARED) | _unpredicted(tokens, tokenizer)
    return {name: place for name, place in grown.items() if name not in unusable}, unusable


def _with_value(segment: Segment, span: Span) -> Segment:
    if segment.value_range == span:
        return segment
    return replace(segment, value=segment.text[slice(*span)], value_start=span[0])


def _affixes(segment: Segment, bare: Span) -> tuple[str, str]:
    """Return the characters by which a value in a text was extended, before and after it."""
    if not isinstance(segment.text, str) or segment.value_range is None:
        return "", ""
    start, stop = segment.value_range
    return segment.text[start : bare[0]], segment.text[bare[1] : stop]


def _unpredicted(tokens: TokenizedTranscript, tokenizer: "PromptTokenizer") -> dict[str, str]:
    """Return why values cannot be targets: they are the first token, which nothing predicts, or have an unknown token."""
    unknown = None if tokenizer.hf_tokenizer is None else tokenizer.hf_tokenizer.unk_token_id
    first = {name: FIRST for name, (start, _) in tokens.value_spans.items() if start == 0}
    return first | {name: UNKNOWN for name in tokens.value_spans if unknown in tokens.value_ids(name)}


def _check_length(tokens: TokenizedTranscript, model: Any) -> None:
    """Raise PromptError for a prompt that is longer than the context of the model."""
    source = getattr(model, "source", None)
    config = None if source is None else source.config().get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None and len(tokens.token_ids) > limit:
        raise PromptError(
            f"the transcript has {len(tokens.token_ids):,} tokens and the model's context {limit:,}: leave out segments"
        )


def _with_alternatives(tokens: TokenizedTranscript, values: Mapping[str, StatedValue]) -> TokenizedTranscript:
    """Return tokens with the alternatives of each value; `alternatives` are all of them and the values, without order."""
    own = {name: [list(ids) for ids in value.alternatives] for name, value in values.items()}
    every = {tuple(ids) for name, listed in own.items() for ids in (tokens.value_ids(name), *listed)}
    return replace(tokens, alternatives=[list(ids) for ids in sorted(every)], alternatives_of=own)
