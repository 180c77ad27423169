"""Tokens of characters, by the offsets of a tokenizer. Knows nothing about segments' roles; imports no torch.

A token's *visible* characters run from its first to its last one that is not white space. White space never decides where a
token belongs, unless the token has nothing else: tokenizers glue spaces to the word that follows.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from cotrace.common.errors import PromptError

Span = tuple[int, int]


def stands_alone(before: str, inside: str, after: str) -> bool:
    """Return whether a text is not part of a longer word or number, given the texts before and after it."""
    return not (before[-1:].isalnum() and inside[:1].isalnum()) and not (inside[-1:].isalnum() and after[:1].isalnum())


class StraddlingToken(NamedTuple):
    """A token whose characters lie in several segments.

    Attributes:
        position: where it is in the prompt.
        text: its characters.
        segment: name of the segment that it was assigned to; empty for text of a chat template.
        others: names of the other segments that hold some of its characters.
        mixed: whether one of these holds visible characters of it, not only white space.
    """

    position: int
    text: str
    segment: str
    others: tuple[str, ...]
    mixed: bool


def visible(text: str, span: Span) -> Span:
    """Return the (start, stop) of the visible characters of a span; of white space, the whole span."""
    covered = text[slice(*span)]
    if not covered.strip():
        return span
    stop = span[0] + len(covered.rstrip())
    return stop - len(covered.strip()), stop


def tokens_of_value(text: str, span: Span, offsets: Sequence[Span], what: str) -> Span:
    """Return the tokens (start, stop) that hold the visible characters of a span.

    Raises PromptError if one of them holds other visible characters too; `what` names the span.
    """
    first, last = visible(text, span)
    tokens = []
    for token, start, stop in _holding(text, (first, last), offsets):
        tokens.append(token)
        if start < first or stop > last:
            raise PromptError(
                f"{what} shares the token {text[start:stop]!r} with other text: separate them, or give the value with all "
                "characters of its tokens"
            )
    if not tokens:
        raise PromptError(f"{what} has no token: the tokenizer drops its characters")
    return tokens[0], tokens[-1] + 1


def grow_to_tokens(text: str, span: Span, offsets: Sequence[Span]) -> Span | None:
    """Return a span extended to the visible characters of all tokens that contain a part of it; None if no token does."""
    first, last = visible(text, span)
    held = [(start, stop) for _, start, stop in _holding(text, (first, last), offsets)]
    if not held:
        return None
    return min([first, *(start for start, _ in held)]), max([last, *(stop for _, stop in held)])


def _holding(text: str, span: Span, offsets: Sequence[Span]) -> Iterator[tuple[int, int, int]]:
    """Yield the tokens that hold characters of a span, with the start and stop of their visible ones."""
    start_of, stop_of = itemgetter(0), itemgetter(1)
    for token in range(bisect_right(offsets, span[0], key=stop_of), bisect_left(offsets, span[1], key=start_of)):
        start, stop = visible(text, offsets[token])
        if start < span[1] and stop > span[0]:
            yield token, start, stop


def owners(text: str, offsets: Sequence[Span], ends: Sequence[int]) -> list[int]:
    """Return the part of a text that each token belongs to, where parts end at `ends`: that of its first visible character."""
    return [min(bisect_right(ends, visible(text, span)[0]), len(ends) - 1) for span in offsets]


def straddling_tokens(
    text: str, offsets: Sequence[Span], ends: Sequence[int], names: Sequence[str], first_position: int
) -> list[StraddlingToken]:
    """Return the tokens whose characters lie in several parts of a text, which end at `ends`."""
    found = []
    for token, (span, owner) in enumerate(zip(offsets, owners(text, offsets, ends), strict=True)):
        first, last = bisect_right(ends, span[0]), bisect_right(ends, max(span[0], span[1] - 1))
        others = [part for part in range(first, min(last, len(ends) - 1) + 1) if part != owner]
        if others:
            start, stop = visible(text, span)
            mixed = bisect_right(ends, start) != bisect_right(ends, stop - 1) and bool(text[start:stop].strip())
            other_names = tuple(names[part] for part in others)
            found.append(StraddlingToken(first_position + token, text[slice(*span)], names[owner], other_names, mixed))
    return found
