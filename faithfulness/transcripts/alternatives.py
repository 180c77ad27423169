"""Find alternatives of stated values: other values that have as many tokens in their place. Imports no torch."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from cotrace.common.errors import ArgumentError

from .segment import Content, as_content
from .tokenized import NO_CONTEXT, Context, TokenizedTranscript, first_difference, in_place, tokens_of_alternatives
from .transcript import Transcript
from .value_rules import candidates_for, core_of, letters_of, other_digits, other_letters
from .words import is_unspaced, kind_of

if TYPE_CHECKING:
    from cotrace.attribution.models.tokenizer import PromptTokenizer

GIVEN = "given"
MAX_ALTERNATIVES = 64
AT_ONCE = 128  # texts that are tokenized together, until there are enough alternatives
FEW_ALTERNATIVES = 8  # a word of letters and digits with fewer gets others with other letters

Alternatives = Iterable[str | Sequence[int]] | Mapping[str, Iterable[str | Sequence[int]]]


class FoundAlternatives(NamedTuple):
    """The alternatives of a value.

    Attributes:
        ids: their token ids.
        texts: their texts, in the same order.
        rule: how they were found; None if there is none.
        reason: why there is none; empty if there is one.
        is_open: whether other values of the kind exist, such as words that the transcript does not contain.
    """

    ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    rule: str | None
    reason: str
    is_open: bool = False


class AlternativeFinder:
    """Find alternatives of the values of a transcript.

    Args:
        tokens: the transcript with its values.
        tokenizer: of the model.
        texts: the texts of its segments.
        said: the stated values by segment.
    """

    def __init__(
        self, tokens: TokenizedTranscript, tokenizer: "PromptTokenizer", texts: Sequence[str], said: Mapping[str, str]
    ):
        self._tokens, self._tokenizer, self._texts, self._said = tokens, tokenizer, texts, said
        hf_tokenizer = tokenizer.hf_tokenizer
        self._unknown = None if hf_tokenizer is None else hf_tokenizer.unk_token_id

    def given(
        self, name: str, alternatives: Sequence[Content], affixes: tuple[str, str] = ("", ""), is_needed: bool = True
    ) -> FoundAlternatives:
        """Return the given alternatives of a segment's value that differ from it, in any number of tokens.

        Args:
            name: the segment.
            alternatives: texts or token ids.
            affixes: the characters before and after the value by which it was extended to whole tokens; texts are extended
                by the same.
            is_needed: whether to raise ArgumentError if none differs from the value.

        Raises:
            ArgumentError: an alternative with an unknown token, or none that differs although one is needed.
        """
        said, context = self._tokens.value_ids(name), self._tokens.contexts.get(name, NO_CONTEXT)
        before, after = affixes
        grown = [
            before + each.strip() + after if any(affixes) and isinstance(each, str) else each for each in alternatives
        ]
        found = {}
        for value, ids in zip(grown, tokens_of_alternatives(grown, context, self._tokenizer), strict=True):
            if self._unknown in ids:
                raise ArgumentError(
                    f"the tokenizer does not know the alternative {value!r} of {name!r}: give another one"
                )
            if first_difference(said, ids) is not None:  # else one begins with the other
                found[tuple(ids)] = value.strip() if isinstance(value, str) else self._tokenizer.decode(ids)
        if found:
            return _found(found, GIVEN)
        reason = f"none of the given alternatives differs from the value {self._said[name]!r} of {name!r} at one of its tokens"
        if is_needed:
            raise ArgumentError(f"{reason}: give others")
        return FoundAlternatives((), (), None, reason)

    def find(self, name: str) -> FoundAlternatives:
        """Return values of the same kind as a segment's value that have as many tokens in its place, at most 64."""
        said = tuple(self._tokens.value_ids(name))
        if self._tokenizer.hf_tokenizer is None:
            return self._without_text(said)
        return self.find_at(self._said[name], said, self._tokens.contexts.get(name, NO_CONTEXT))

    def find_at(self, text: str, said: tuple[int, ...], context: Context) -> FoundAlternatives:
        """Return the alternatives of any text in the prompt, whose token ids are `said`, in its context."""
        start, stop = core_of(text)
        core = text[start:stop]
        stated = [value[slice(*core_of(value))] for value in self._said.values()]
        candidates, rule, is_open = candidates_for(
            core, stated, self._token_texts if is_unspaced(core) else self._texts
        )

        def fitting(cores: Sequence[str]) -> dict[tuple[int, ...], str]:
            return self._fitting(said, context, [text[:start] + each + text[stop:] for each in cores])

        found = fitting(candidates)
        if digits := other_digits(core):
            found |= fitting(digits)
            rule += ", and others of its shape"
            letters = {letters_of(value) for value in stated if kind_of(value) == kind_of(core)}
            if len(letters) > 1 or len(found) < FEW_ALTERNATIVES:
                found |= fitting(other_letters(core, stated))
            is_open = False
        return _found(found, rule, is_open or len(found) >= MAX_ALTERNATIVES) if found else self._none(said)

    @cached_property
    def _token_texts(self) -> list[str]:
        """The texts of the prompt's tokens: words of scripts without spaces."""
        return [self._tokenizer.decode_token(token) for token in dict.fromkeys(self._tokens.token_ids)]

    def _fitting(self, said: tuple[int, ...], context: Context, texts: Sequence[str]) -> dict[tuple[int, ...], str]:
        """Return the texts by their token ids that have as many tokens as a value, none of them unknown."""
        found: dict[tuple[int, ...], str] = {}
        for start in range(0, len(texts), AT_ONCE):
            part = texts[start : start + AT_ONCE]
            for text, ids in zip(part, in_place(part, context, self._tokenizer), strict=True):
                if ids is not None and len(ids) == len(said) and ids != said and self._unknown not in ids:
                    found.setdefault(ids, text.strip())
            if len(found) >= MAX_ALTERNATIVES:
                break
        return found

    def _without_text(self, said: tuple[int, ...]) -> FoundAlternatives:
        """Return the values of other segments with as many tokens, for a model without a tokenizer."""
        ids = [tuple(self._tokens.value_ids(name)) for name in self._said]
        found = {each: self._tokenizer.decode(list(each)) for each in ids if len(each) == len(said) and each != said}
        return _found(found, "values of the transcript") if found else self._none(said)

    def _none(self, said: tuple[int, ...]) -> FoundAlternatives:
        tokens = "one token" if len(said) == 1 else f"{len(said)} tokens"
        return FoundAlternatives((), (), None, f"no other value of {tokens} was found: give alternatives=")


def check_alternatives(transcript: Transcript, alternatives: Alternatives | None) -> dict[str, list[Content]]:
    """Return the alternatives that are given for each segment: `alternatives`, else the transcript's `values`.

    Raises ArgumentError for an unknown segment, one without value, and for anything but lists.
    """
    if isinstance(alternatives, Mapping):
        for name in alternatives:
            if transcript[name].value is None:
                raise ArgumentError(f"alternatives of {name!r} are given, but it states no value: give it one")
        return {name: _checked(each, f"alternatives of {name!r}") for name, each in alternatives.items()}
    listed = transcript.values if alternatives is None else _checked(alternatives, "alternatives")
    return {name: list(listed) for name in transcript.names} if listed else {}


def _checked(alternatives: Any, what: str) -> list[Content]:
    """Return alternatives as a list. Raises ArgumentError for anything but texts or token ids in a list."""
    if isinstance(alternatives, str | bytes) or not isinstance(alternatives, Iterable):
        raise ArgumentError(f"{what} are {alternatives!r}: expected a list of texts or of token ids")
    return [as_content(each, f"one of the {what}") for each in alternatives]


def _found(texts: Mapping[tuple[int, ...], str], rule: str, is_open: bool = False) -> FoundAlternatives:
    kept = list(texts.items())[: None if rule == GIVEN else MAX_ALTERNATIVES]
    return FoundAlternatives(tuple(ids for ids, _ in kept), tuple(text for _, text in kept), rule, "", is_open)
