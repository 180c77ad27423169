"""Features, error nodes and tokens as users name them, and the one text form of each.

A feature is written `L17#264`, an error node `L17#error`, a token `token`. Positions follow an `@`: `L17#264@5`, `L17#264@-1`,
`L17#264@2:6`, `L17#264@3,5`, `L17#264@generated`. Without an `@` all positions are meant. `cotrace show` prints a label
after it, in quotes, which is ignored here: `L17#264@5 'not cold'`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError
from cotrace.common.visible_text import quoted

POSITION_WORDS = ("all", "prompt", "generated")
MAX_RANGES_SHOWN = 4

Position = int | Sequence[int] | range | slice | str

_NODE = re.compile(
    r"\s*L(?P<layer>[0-9]{1,6})\s*(?:#\s*(?P<feature>[0-9]{1,9})|#?\s*(?P<error>error))\s*(?:@\s*(?P<position>[^\s'\"][^'\"]*?))?"
    r"\s*(?:\s(?:'.*'|\".*\")\s*)?",
    re.DOTALL,
)
_TOKEN = re.compile(r"\s*token\s*(?:@\s*(?P<position>.+?))?\s*")
_NEURONPEDIA = re.compile(r"\s*(?P<layer>[0-9]{1,6})_(?P<feature>[0-9]{1,9})(?:_(?P<position>[0-9]{1,6}))?\s*")
_RANGE = re.compile(r"\s*(-?[0-9]{1,6})(?::(-?[0-9]{1,6}))?\s*")


@dataclass(frozen=True)
class Feature:
    """A transcoder feature, or with `neurons` a neuron.

    `position` is a position in the prompt (a negative one counts from the end), several of them as a list, range or
    slice, or one of "all", "prompt" and "generated". These three leave out masked positions, which carry no features.
    `str(feature)` is its text form, and `Feature.parse` reads it.

    Raises:
        ArgumentError: a layer, feature or position that is not an integer, or an unknown word for a position.
    """

    layer: int
    feature: int
    position: Position = "all"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_index(self.layer, "a layer"))
        object.__setattr__(self, "feature", as_index(self.feature, "a feature"))
        object.__setattr__(self, "position", normalized_position(self.position))

    def __str__(self) -> str:
        return f"L{self.layer}#{self.feature}{format_position(self.position)}"

    @classmethod
    def parse(cls, text: str) -> "Feature":
        """Return the feature that a text such as `L17#264@5`, or Neuronpedia's `17_264_5`, names.

        Raises ArgumentError for any other text.
        """
        node = parse_node(text)
        if not isinstance(node, cls):
            raise ArgumentError(f"{text!r} is not a feature; expected one such as L17#264@5")
        return node


@dataclass(frozen=True)
class ErrorNode:
    """The error node of a layer: the part of the MLP's output that its transcoder does not reconstruct, (D,).

    `position` is as in `Feature`. The text form is `L17#error@5`.
    """

    layer: int
    position: Position = "all"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_index(self.layer, "a layer"))
        object.__setattr__(self, "position", normalized_position(self.position))

    def __str__(self) -> str:
        return f"L{self.layer}#error{format_position(self.position)}"


@dataclass(frozen=True)
class Token:
    """The node of a token: its embedding, (D,), scaled by sqrt(D) as it enters the residual stream.

    `position` is as in `Feature`, except that masked positions can be named too. The text form is `token@5`.
    """

    position: Position = "all"

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", normalized_position(self.position))

    def __str__(self) -> str:
        return f"token{format_position(self.position)}"


def parse_node(text: str) -> Feature | ErrorNode | Token:
    """Return the node that a text names: `L17#264@5` or `17_264_5`, `L17#error@5`, or `token@5`.

    Spaces between the parts are ignored. Raises ArgumentError for any other text.
    """
    match = _NEURONPEDIA.fullmatch(text) or _NODE.fullmatch(text) or _TOKEN.fullmatch(text)
    if match is None:
        raise ArgumentError(
            f"invalid node {text!r}: expected a feature such as L17#264@5, an error node such as L17#error@5, or token@5"
        )
    position = "all" if match["position"] is None else parse_position(match["position"])
    if match.re is _TOKEN:
        return Token(position)
    layer = int(match["layer"])
    if match.groupdict().get("error"):
        return ErrorNode(layer, position)
    return Feature(layer, int(match["feature"]), position)


def parse_position(text: str) -> str | int | tuple[int, ...]:
    """Return the position that the text after an `@` names: a word, an integer, or several integers.

    Raises ArgumentError for any other text.
    """
    word = text.strip()
    if word in POSITION_WORDS:
        return word
    if not any(character.isdecimal() for character in word):
        raise ArgumentError(
            f"invalid position {word!r}: expected an integer, FIRST:STOP, several of these with commas, or one of 'all', "
            "'prompt', 'generated'"
        )
    positions = parse_integers(text)
    return positions if len(positions) > 1 else positions[0]


def parse_integers(text: str) -> tuple[int, ...]:
    """Return the integers of a list such as `3,5,8:11`, where `8:11` is 8, 9 and 10.

    Raises ArgumentError for anything else, for an empty range, and for an integer that is named twice.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ArgumentError(
                f"{text.strip()!r} names no integers: expected an integer, FIRST:STOP, or several of these with commas"
            )
        first = int(match[1])
        stop = first + 1 if match[2] is None else int(match[2])
        if stop <= first or first < 0 < stop:
            raise ArgumentError(f"empty range {part.strip()!r}: FIRST:STOP covers FIRST up to STOP - 1")
        numbers += range(first, stop)
    if len(set(numbers)) < len(numbers):
        raise ArgumentError(f"{text.strip()!r} names an integer twice; name each once")
    return tuple(numbers)


def normalized_position(position: Any) -> str | int | tuple[int, ...]:
    """Return a position in the form in which nodes store it: a word, an int or a tuple of ints.

    Raises ArgumentError for anything that is not a position.
    """
    if isinstance(position, str):
        if position not in POSITION_WORDS:
            raise ArgumentError(
                f"invalid position {position!r}: expected int, list, range, slice, 'all', 'prompt' or 'generated'"
            )
        return position
    if isinstance(position, slice):
        start = position.start or 0
        if position.stop is None or start >= 0 > position.stop:
            raise ArgumentError(
                f"invalid position {position}: a slice needs both ends, counted from the same side, such as slice(2, 6) "
                "or slice(-3, 0)"
            )
        position = range(start, position.stop, position.step or 1)
    if isinstance(position, Iterable) and getattr(position, "ndim", 1) > 0:
        positions = tuple(as_index(each, "a position") for each in position)
        if not positions:
            raise ArgumentError("empty list of positions: name at least one")
        return positions
    return as_index(position, "a position")


def resolve_position(position: Any, n_positions: int, what: str = "position") -> int:
    """Return a position counted from the start of a prompt; a negative one counts from the end.

    `what` names the position in the message. Raises ArgumentError for a position outside the prompt, and for anything
    that is not an integer.
    """
    position = as_index(position, what)
    if not -n_positions <= position < n_positions:
        raise ArgumentError(
            f"{what} {position} is outside the prompt of {n_positions} tokens ({-n_positions} … {n_positions - 1})"
        )
    return position % n_positions


def format_position(position: Position) -> str:
    """Return the text form of a position, with its `@`: `@4`, `@2:6`, `@3,5,8:99`; empty for "all"."""
    if not isinstance(position, tuple):
        return "" if position == "all" else f"@{position}"
    shown = _ranges(position)
    return "@" + ",".join(shown[:MAX_RANGES_SHOWN] + ["…"] * (len(shown) > MAX_RANGES_SHOWN))


def text_of_positions(positions: Iterable[int]) -> str:
    """Return the text that `parse_integers` reads as these positions: `4`, `2:6`, `3,5,8:99`."""
    return ",".join(_ranges(positions))


def _ranges(positions: Iterable[int]) -> list[str]:
    ranges: list[list[int]] = []
    for each in positions:
        if ranges and each == ranges[-1][1] != 0:  # 0 is the first position, not the one after the last
            ranges[-1][1] += 1
        else:
            ranges.append([each, each + 1])
    return [str(first) if stop == first + 1 else f"{first}:{stop}" for first, stop in ranges]


def describe_node(kind: str, layer: int | None, position: int | None, feature: int | None, text: str | None) -> str:
    """Return the short name of a node: 'token'@position, L3#812@4, L3#error@4 or bias.

    Features and error nodes have their text form, followed by their text if they have any.
    """
    if kind == "bias":
        return kind
    if kind == "token":
        return f"{quoted(text or '')}@{position}"
    assert layer is not None
    assert position is not None
    name = str(ErrorNode(layer, position) if feature is None else Feature(layer, feature, position))
    return f"{name} {quoted(text)}" if text else name
