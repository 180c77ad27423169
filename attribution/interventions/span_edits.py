"""Edits of spans of a prompt, as users write them: other text, and values from another prompt. Imports no torch."""

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError

DonorValues = Literal["kv", "keys", "values", "queries", "residual"]
DONOR_CHOICES: tuple[DonorValues, ...] = get_args(DonorValues)
PARTS: dict[str, tuple[str, ...]] = {"kv": ("keys", "values")}  # of a choice that is several values


@dataclass(frozen=True, eq=False, repr=False)
class Swap:
    """An edit that replaces the tokens of a span by as many others.

    Args:
        where: a position, a span `(start, stop)`, a slice, a range, an ascending list of positions, or the name of a segment
            of a transcript or of `segments=`. Negative positions count from the end of the prompt.
        text: a text, which is tokenized in its place, or token ids.

    Raises:
        ArgumentError: neither a text nor token ids.
    """

    where: Any
    text: Any

    def __post_init__(self) -> None:
        if isinstance(self.text, str):
            if not self.text:
                raise ArgumentError("the text of a Swap is empty: it replaces as many tokens as it has")
            return
        given = self.text.tolist() if hasattr(self.text, "tolist") else self.text
        listed = given if isinstance(given, Iterable) and not isinstance(given, bytes | dict) else [given]
        ids = tuple(as_index(each, "the text of a Swap is a text or token ids; a token id") for each in listed)
        if not ids:
            raise ArgumentError("the token ids of a Swap are empty: give as many as the span has")
        object.__setattr__(self, "text", ids)

    def __repr__(self) -> str:
        return f"Swap({_short(self.where)}, {_short(self.text)})"


@dataclass(frozen=True, eq=False, repr=False)
class Donor:
    """An edit that puts values of another prompt, the donor, in place of those of a span.

    Args:
        where: as in `Swap`.
        from_prompt: the donor: a text, token ids, a chat or a transcript. It runs without edits.
        what: "kv", "keys" or "values": of the span, as queries after it read them. Queries inside the span read their own.
            "queries": of the span. "residual": the residual stream of the span, after each layer.
        at: the span of the donor that the values come from, written like `where`; names are those of a transcript's
            segments. None takes the same positions, of a donor of equal length. Keys and queries are rotated to the
            positions where they are put.
        layers: the layers where values are replaced; None for all.

    Raises:
        ArgumentError: an unknown `what`, or layers that are no list of integers.
    """

    where: Any
    from_prompt: Any
    what: DonorValues = "kv"
    at: Any = None
    layers: Iterable[int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.what, str) or self.what not in DONOR_CHOICES:
            raise ArgumentError(f"what={self.what!r} is not one of {', '.join(DONOR_CHOICES)}")
        if self.layers is None:
            return
        if not isinstance(self.layers, Iterable) or isinstance(self.layers, str):
            raise ArgumentError(f"layers={self.layers!r} is not a list; write layers=[…], also for one layer")
        layers = tuple(as_index(layer, "a layer") for layer in self.layers)
        if not layers:
            raise ArgumentError("layers=[] of a Donor names no layer: name at least one, or leave it out for all")
        object.__setattr__(self, "layers", layers)

    def __repr__(self) -> str:
        at = "" if self.at is None else f", at={_short(self.at)}"
        layers = "" if self.layers is None else f", layers={_short([*self.layers])}"
        return f"Donor({_short(self.where)}, {_short(self.from_prompt)}, {self.what!r}{at}{layers})"

    @property
    def parts(self) -> tuple[str, ...]:
        """The values that are replaced: some of "keys", "values", "queries" and "residual"."""
        return PARTS.get(self.what, (self.what,))


SpanEdit = Swap | Donor


def _short(value: Any) -> str:
    return " ".join(reprlib.repr(value).split())
