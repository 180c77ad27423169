"""`Transcript`: a prompt whose segments have roles, such as question, steps and answer. Imports no torch."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from cotrace.common.errors import ArgumentError

from .chat import ChatTurn, chat_pieces, check_turns, parse_messages, segments_of_messages
from .json_form import TranscriptParts, decode, encode, read_file, write_file
from .marked import parse_marked, to_marked
from .segment import ROLES, Content, Segment, as_content, as_segment
from .splitting import Parser, Splitter, split_steps
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
        turns: for a chat, its messages: the role of each and the names of its segments, `[("user", ["question"]), …]`.
            The text is then put into the chat template of the model that tokenizes it. None for a plain prompt.

    Raises:
        ArgumentError: no segment, an invalid one, a name that is used twice, or turns that do not fit the segments.
    """

    __slots__ = ("_by_name", "_segments", "_turns", "_values")

    def __init__(
        self,
        segments: Iterable[Segment | tuple[Any, ...]],
        values: Iterable[str | Sequence[int]] = (),
        turns: Iterable[tuple[str, Iterable[str]]] | None = None,
    ):
        if isinstance(segments, str) or not isinstance(segments, Iterable):
            raise ArgumentError(f"segments={segments!r}: expected a list of (role, text or token ids)")
        self._segments = _named([as_segment(each) for each in segments])
        self._by_name = {segment.name: segment for segment in self._segments}
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise ArgumentError(f"values={values!r}: expected a list of the alternatives")
        self._values = tuple(as_content(value, "an alternative in values=") for value in values)
        self._turns = None if turns is None else check_turns(turns, self._segments)

    @classmethod
    def from_chat(
        cls,
        messages: Iterable[Any],
        *,
        splitter: Splitter = split_steps,
        reasoning: int | None = None,
        template: bool = True,
        values: Iterable[str | Sequence[int]] = (),
    ) -> "Transcript":
        """Return the transcript of a chat.

        The last message of the user is the question. In messages of the assistant after it, the text between <think> and
        </think> is split into steps, and what follows is the answer; the tags are of role "text", as all other messages are.

        Args:
            messages: `{"role": …, "content": …}` in order; the content is a text.
            splitter: function that splits reasoning into steps. It returns texts that add up to its argument.
            reasoning: number of a message that is reasoning as a whole, without tags. Its last piece is the answer,
                unless the assistant speaks again after it.
            template: whether the model's chat template is used. Without it, messages are joined by line breaks.
            values: as of `Transcript`.

        Raises:
            ArgumentError: messages of another form, or a splitter whose pieces do not add up to the text.
        """
        parsed = parse_messages(messages)
        parts = segments_of_messages(parsed, splitter, reasoning)
        if not template:
            between = [Segment("text", "\n")]
            return cls([each for part in parts for each in (*part, *between)][:-1], values)
        segments = _named([each for part in parts for each in part])
        names = iter([segment.name for segment in segments])
        turns = [(role, [next(names) for _ in part]) for (role, _), part in zip(parsed, parts, strict=True)]
        return cls(segments, values, turns)

    @classmethod
    def from_marked(cls, text: str, values: Iterable[str | Sequence[int]] = ()) -> "Transcript":
        """Return the transcript of a marked-up text, `<question>2 + 3?</question><step>It is <value>5</value>.</step>`.

        Tags are roles, perhaps with `name="…"`, and `<value>`. All other text is kept, white space included; outside of tags
        its role is "text". A backslash in front of a tag makes it text.

        Raises ArgumentError for tags that do not fit one another.
        """
        return cls(parse_marked(text), values)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Transcript":
        """Return the transcript that `to_json` wrote, or that of a JSON list of segments. Raises ArgumentError for other texts."""
        return cls(*decode(text))

    @classmethod
    def open(cls, path: str | PathLike[str]) -> "Transcript":
        """Return the transcript in a file. Raises FileError for one that is missing, damaged, or no transcript."""
        return read_file(Path(path), lambda parts: cls(*parts))

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the transcript to a file as JSON, atomically; return its path.

        Raises FileError or ResourceError if it cannot be written.
        """
        return write_file(self._parts(), Path(path))

    def to_json(self) -> str:
        """Return the transcript as JSON."""
        return encode(self._parts())

    def to_marked(self) -> str:
        """Return the transcript as marked-up text, which `from_marked` reads. `values` are not part of it.

        Raises ArgumentError for segments of token ids, and for chats.
        """
        if self._turns is not None:
            raise ArgumentError("turns of a chat cannot be marked up: save the transcript as JSON")
        nameless = [replace(segment, name="") for segment in self._segments]
        return to_marked(self._segments, [segment.name for segment in _named(nameless)])

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments in order, each with a name."""
        return self._segments

    @property
    def values(self) -> tuple[Content, ...]:
        """Alternatives of the stated values."""
        return self._values

    @property
    def turns(self) -> tuple[ChatTurn, ...] | None:
        """The messages of a chat, as role and names of segments; None for a plain prompt."""
        return self._turns

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the segments, in order."""
        return tuple(self._by_name)

    @property
    def text(self) -> str:
        """The concatenation of all segments, without a chat template. Raises ArgumentError if one is given as token ids."""
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

    def require_answer(self) -> Segment:
        """Return the last segment of role "answer". Raises ArgumentError for a transcript without one."""
        if self.answer is None:
            raise ArgumentError("the transcript has no answer: give its last segment the role 'answer'")
        return self.answer

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

    def with_text(self, name: str, text: str | Sequence[int], value: str | Sequence[int] | None = None) -> "Transcript":
        """Return the transcript with another text, or other token ids, of a segment.

        `value` is what the segment then states. Without one it still states its value if the new text contains it, and
        none otherwise. Raises ArgumentError for an unknown name, an empty text, and a value that the text does not contain.
        """
        return self._with(self[name].with_text(text, value))

    def find_values(self, parser: Parser, roles: Iterable[str] = ("hint", "step", "answer")) -> "Transcript":
        """Return the transcript with the values that a parser finds in segments which state none yet.

        Args:
            parser: function from a segment's text to its value, exactly as it stands there, or None. `last_number` in
                `cotrace.faithfulness.transcripts` is one.
            roles: roles of the segments to parse. Segments of token ids are left as they are.

        Raises:
            ArgumentError: the parser returns a value that the text does not contain, or an unknown role.
        """
        chosen = set(roles)
        if unknown := chosen - set(ROLES):
            raise ArgumentError(f"invalid role {min(unknown)!r}: expected {', '.join(ROLES)}")
        return self._of(
            replace(segment, value=parser(segment.text))
            if segment.role in chosen and segment.value is None and isinstance(segment.text, str)
            else segment
            for segment in self._segments
        )

    def with_segments(self, segments: Iterable[Segment]) -> "Transcript":
        """Return the transcript with other segments of the same names, in the same order."""
        changed = self._of(segments)
        if changed.names != self.names:
            raise ArgumentError(f"the segments are {list(changed.names)}: give one for each of {list(self.names)}")
        return changed

    def without(self, *names: str) -> "Transcript":
        """Return the transcript without some segments; the others keep their names. Raises ArgumentError for an unknown name."""
        left_out = {self[name].name for name in names}
        return self._of(segment for segment in self._segments if segment.name not in left_out)

    def before(self, name: str) -> "Transcript":
        """Return the segments before a segment. Raises ArgumentError for an unknown name, and for the first one."""
        n_before = self.names.index(self[name].name)
        if not n_before:
            raise ArgumentError(f"nothing stands before {name!r}, the first segment: name a later one")
        return self._of(self._segments[:n_before])

    def until(self, name: str) -> "Transcript":
        """Return the segments up to and including a segment. Raises ArgumentError for an unknown name."""
        return self._of(self._segments[: self.names.index(self[name].name) + 1])

    def tokenize(self, model: Union["ModelLike", "PromptTokenizer"], /) -> TokenizedTranscript:
        """Return the token ids of the prompt, and the tokens of each segment and value.

        Args:
            model: a `cotrace.Model`, a `LanguageModel`, or the tokenizer of one.

        Raises:
            ArgumentError: something else than a model or tokenizer of cotrace.
            PromptError: the tokenizer does not tell the offsets of tokens, a token id is outside the vocabulary, a segment
                other than "text" has no token, or a value shares a token with other text.
        """
        tokenizer = tokenizer_of(model)
        return tokenize_pieces(self.pieces(tokenizer), self._values, tokenizer)

    def pieces(self, tokenizer: "PromptTokenizer") -> list[Piece]:
        """Return the parts of the prompt: the segments, and text of the chat template between them."""
        if self._turns is None:
            return [Piece.of(segment) for segment in self._segments]
        return chat_pieces(self._turns, self._by_name, tokenizer)

    def _with(self, changed: Segment) -> "Transcript":
        return self._of(changed if segment.name == changed.name else segment for segment in self._segments)

    def _of(self, segments: Iterable[Segment]) -> "Transcript":
        """Return a transcript of some of these segments, which may be changed."""
        kept = list(segments)
        names = {segment.name for segment in kept}
        turns = None
        if self._turns is not None:
            left = [(turn.role, [name for name in turn.segments if name in names]) for turn in self._turns]
            turns = [(role, each) for role, each in left if each]
        return Transcript(kept, self._values, turns)

    def _parts(self) -> TranscriptParts:
        return TranscriptParts(self._segments, self._values, self._turns)


def tokenizer_of(model: Any) -> "PromptTokenizer":
    """Return the tokenizer of a model, or a tokenizer itself. Raises ArgumentError for anything else."""
    tokenizer: Any = getattr(model, "tokenizer", None) or model
    if not hasattr(tokenizer, "encode_without_bos"):
        raise ArgumentError(f"tokenize({model!r}): expected a cotrace.Model, a LanguageModel or its tokenizer")
    return tokenizer


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
