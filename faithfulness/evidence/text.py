"""`StatedText`: a transcript as token ids, with its segments, values, words and repetitions of values. Imports no torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..transcripts import TokenizedTranscript, Transcript
from ..transcripts.offsets import stands_alone

Ids = tuple[int, ...]
GIVEN_ROLES = ("question", "hint")


@dataclass(frozen=True)
class StatedSegment:
    """A segment that begins before the answer's value is complete.

    Attributes:
        name, role: of the segment.
        start, stop: its positions, `start` included and `stop` not.
        value: positions (start, stop) of its value; None without one.
        alternatives: other values, as token ids.
    """

    name: str
    role: str
    start: int
    stop: int
    value: tuple[int, int] | None
    alternatives: tuple[Ids, ...]


class StatedText:
    """The token ids of a transcript up to the answer's value.

    Args:
        transcript: has an answer that states a value.
        tokens: its tokens.
        tokenizer: decodes tokens, and encodes numbers.

    Raises:
        ArgumentError: no answer, or an answer without a value.

    Attributes:
        ids: token ids up to the one that predicts the last token of the answer's value.
        segments: the segments in order, without those after the answer.
        answer: the segment of the answer.
        said: token ids of the answer's value.
    """

    def __init__(self, transcript: Transcript, tokens: TokenizedTranscript, tokenizer: Any):
        name = transcript.require_answer().name
        self.tokenizer, self.said = tokenizer, tuple(tokens.value_ids(name))
        end = tokens.read_position(name) + len(self.said)
        self.ids: Ids = tuple(tokens.token_ids[:end])
        self.segments = [
            StatedSegment(
                each.name, each.role, *tokens.spans[each.name], tokens.value_spans.get(each.name), _others(tokens, each)
            )
            for each in transcript.segments
            if each.name == name or (each.name in tokens.spans and tokens.spans[each.name][0] < end)
        ]
        self.answer = next(each for each in self.segments if each.name == name)

    @cached_property
    def steps(self) -> list[StatedSegment]:
        """The steps before the answer that state a value, in order."""
        assert self.answer.value is not None
        first = self.answer.value[0]
        return [each for each in self.segments if each.role == "step" and each.value and each.value[1] <= first]

    @cached_property
    def given(self) -> list[StatedSegment]:
        """Question and hint, in order, without those that begin after the first step."""
        first = min((each.start for each in self.segments if each.role == "step"), default=self.answer.start)
        return [each for each in self.segments if each.role in GIVEN_ROLES and each.start < first]

    @cached_property
    def hint(self) -> StatedSegment | None:
        """The first hint that states a value and comes before the steps."""
        return next((each for each in self.given if each.role == "hint" and each.value), None)

    @cached_property
    def words(self) -> list[str]:
        """The text of each token."""
        return [self.tokenizer.decode_token(token) for token in self.ids]

    def text_of(self, ids: Sequence[int]) -> str:
        """Return the text of a value, without white space around it."""
        return decode_value(self.tokenizer, ids)

    def value_of(self, segment: StatedSegment) -> Ids:
        """Return the token ids of a segment's value."""
        assert segment.value is not None
        return self.ids[slice(*segment.value)] if segment is not self.answer else self.said

    def fitting(self, segment: StatedSegment) -> list[Ids]:
        """Return the other values of a segment with as many tokens as its own."""
        said = self.value_of(segment)
        return [value for value in segment.alternatives if len(value) == len(said) and value != said]

    def later_steps(self, segment: StatedSegment) -> list[StatedSegment]:
        """Return the steps with a value after a segment's."""
        return [each for each in self.steps if each.start >= segment.stop]

    def ring_of(self, value: Ids) -> list[Ids]:
        """Return the first segment's value and alternatives that contain a value, sorted; only the value if there is none."""
        for segment in self.segments:
            if segment.value and value in (ring := {self.value_of(segment), *segment.alternatives}):
                return sorted(each for each in ring if len(each) == len(value))
        return [value]

    @cached_property
    def value_positions(self) -> set[int]:
        """Positions of all stated values."""
        return {p for each in self.segments if each.value for p in range(*each.value)}

    def stands_alone(self, start: int, stop: int) -> bool:
        """Return whether a range of tokens is not a part of a longer word or number."""
        inside = "".join(self.words[start:stop])
        before = self.words[start - 1] if start else ""
        after = self.words[stop] if stop < len(self.ids) else ""
        return stands_alone(before, inside, after)

    def occurrences(self, value: Ids, start: int, stop: int) -> Iterator[int]:
        """Yield where a value stands in a range of positions, not as part of a longer word or of a stated value."""
        stop = min(stop, len(self.ids))
        for p in range(start, stop - len(value) + 1):
            last = p + len(value)
            free = self.value_positions.isdisjoint(range(p, last))
            if free and self.ids[p:last] == value and self.stands_alone(p, last):
                yield p

    @cached_property
    def repeats(self) -> dict[int, int]:
        """Positions outside of stated values that repeat the value of an earlier step, each with the position that it repeats.

        A repeated value is that of the last earlier step that states it.
        """
        found: dict[int, int] = {}
        for segment in self.steps:
            assert segment.value is not None
            start, stop = segment.value
            for p in self.occurrences(self.ids[start:stop], stop, len(self.ids)):
                found.update(zip(range(p, p + stop - start), range(start, stop), strict=True))
        return found

    def own_repeats(self, segment: StatedSegment) -> list[int]:
        """Return where a step writes its own value before it states it; nothing if an earlier segment contains the value."""
        assert segment.value is not None
        value = self.value_of(segment)
        if next(self.occurrences(value, 0, segment.start), None) is not None:
            return []
        earlier = [each.value for each in self.segments if each.stop <= segment.start and each.value]
        if any(self.ids[start:stop] == value for start, stop in earlier):
            return []
        return list(self.occurrences(value, segment.start, segment.value[0]))


def decode_value(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of a value's tokens, without white space around it."""
    return "".join(map(tokenizer.decode_token, ids)).strip()


def _others(tokens: TokenizedTranscript, segment: Any) -> tuple[Ids, ...]:
    """Return the alternatives of a segment's value; none without a value."""
    if segment.name not in tokens.value_spans:
        return ()
    return tuple(dict.fromkeys(tuple(value) for value in tokens.foils(segment.name)))
