"""`Transcript`: a prompt whose segments have roles, such as question, steps and answer. Imports no torch."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Union

from cotrace.common.errors import ArgumentError

from .segment import Content, Segment, as_content, as_segment
from .tokenized import Piece, TokenizedTranscript, tokenize_pieces

if TYPE_CHECKING:
    from cotrace.attribution.models.tokenizer import PromptTokenizer
    from cotrace.faithfulness.model_like import ModelLike


class Transcript:
    """A prompt as a list of segments. It is a value: methods return changed copies.

    `cotrace.Model` takes one wherever it takes a prompt.

    Args:
        segments: the segments, whose concatenation is the prompt: `Segment`, `(role, text or token ids)`, or
            `(role, text, name, value)`.
        values: alternatives of the stated values, as texts or token ids: foils and counterfactuals. White space around
            them does not count.

    Raises:
        ArgumentError: no segment, an invalid one, or a name that is used twice.
    """

    __slots__ = ("_by_name", "_segments", "_values")

    def __init__(self, segments: Iterable[Segment | tuple[Any, ...]], values: Iterable[str | Sequence[int]] = ()):
        if isinstance(segments, str) or not isinstance(segments, Iterable):
            raise ArgumentError(f"segments={segments!r}: expected a list of (role, text or token ids)")
        self._segments = _named([as_segment(each) for each in segments])
        self._by_name = {segment.name: segment for segment in self._segments}
        if isinstance(values, str):
            raise ArgumentError(f"values={values!r} is one text: expected a list of the alternatives")
        self._values = tuple(as_content(value, "an alternative in values=") for value in values)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments in order, each with a name."""
        return self._segments

    @property
    def values(self) -> tuple[Content, ...]:
        """Alternatives of the stated values."""
        return self._values

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the segments, in order."""
        return tuple(self._by_name)

    @property
    def text(self) -> str:
        """The concatenation of all segments. Raises ArgumentError if one is given as token ids."""
        for segment in self._segments:
            if not isinstance(segment.text, str):
                raise ArgumentError(f"{segment.title} is given as token ids: decode them with the model's tokenizer")
        return "".join(str(segment.text) for segment in self._segments)

    @property
    def steps(self) -> tuple[Segment, ...]:
        """The segments of role "step", in order."""
        return tuple(segment for segment in self._segments if segment.role == "step")

    @property
    def answer(self) -> Segment | None:
        """The last segment of role "answer"; None if there is none."""
        return next((segment for segment in reversed(self._segments) if segment.role == "answer"), None)

    def __getitem__(self, name: str) -> Segment:
        """Return the segment of a name. Raises ArgumentError if no segment has it."""
        if name not in self._by_name:
            raise ArgumentError(
                f"no segment is called {name!r}: the segments are {', '.join(map(repr, self._by_name))}"
            )
        return self._by_name[name]

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __len__(self) -> int:
        return len(self._segments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transcript) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def __repr__(self) -> str:
        return f"<cotrace.Transcript {', '.join(self._by_name)}>"

    def with_value(self, name: str, value: str | Sequence[int]) -> "Transcript":
        """Return the transcript with a segment that states another value, in the place of its value.

        Other segments keep their text, also where they repeat the value. White space around the value stays as it is.
        Raises ArgumentError for an unknown name, and for a segment without a value.
        """
        return self._with(self[name].with_value(value))

    def with_text(self, name: str, text: str | Sequence[int]) -> "Transcript":
        """Return the transcript with another text, or other token ids, of a segment.

        The segment still states its value if the new text contains it; otherwise it states none. Raises ArgumentError for an
        unknown name, and for an empty text.
        """
        return self._with(self[name].with_text(text))

    def without(self, *names: str) -> "Transcript":
        """Return the transcript without some segments; the others keep their names. Raises ArgumentError for an unknown name."""
        left_out = {self[name].name for name in names}
        return self._of(segment for segment in self._segments if segment.name not in left_out)

    def before(self, name: str) -> "Transcript":
        """Return the segments before a segment. Raises ArgumentError for an unknown name, and for the first one."""
        return self._of(self._segments[: self.names.index(self[name].name)])

    def until(self, name: str) -> "Transcript":
        """Return the segments up to and including a segment. Raises ArgumentError for an unknown name."""
        return self._of(self._segments[: self.names.index(self[name].name) + 1])

    def tokenize(self, model: Union["ModelLike", "PromptTokenizer"], /) -> TokenizedTranscript:
        """Return the token ids of the prompt, and the tokens of each segment and value.

        Args:
            model: a `cotrace.Model`, a `LanguageModel`, or the tokenizer of one.

        Raises:
            PromptError: the tokenizer does not tell the offsets of tokens, a token id is outside the vocabulary, a segment
                other than "text" has no token, or a value shares a token with other text.
        """
        tokenizer: Any = getattr(model, "tokenizer", None) or model
        return tokenize_pieces([Piece.of(segment) for segment in self._segments], self._values, tokenizer)

    def _with(self, changed: Segment) -> "Transcript":
        return self._of(changed if segment.name == changed.name else segment for segment in self._segments)

    def _of(self, segments: Iterable[Segment]) -> "Transcript":
        return Transcript(segments, self._values)

    def _parts(self) -> tuple[Any, ...]:
        return self._segments, self._values


def _named(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return the segments, each with a name. Raises ArgumentError for none, and for a name that is used twice."""
    if not segments:
        raise ArgumentError("the transcript has no segment: give at least one (role, text)")
    taken = Counter(segment.name for segment in segments if segment.name)
    if taken and max(taken.values()) > 1:
        raise ArgumentError(f"two segments are called {max(taken, key=taken.__getitem__)!r}: give each its own name")
    several = {role for role, n in Counter(segment.role for segment in segments).items() if n > 1}
    numbers: Counter[str] = Counter()
    named = []
    for segment in segments:
        numbers[segment.role] += 1
        if not segment.name:
            name = f"{segment.role}{numbers[segment.role]}" if segment.role in several else segment.role
            if name in taken:
                raise ArgumentError(
                    f"a segment is called {name!r}, the name of a segment without one: choose another name"
                )
            segment = replace(segment, name=name)
        named.append(segment)
    return tuple(named)
