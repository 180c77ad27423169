"""`Segment`: a part of a prompt with a role, and the value that it states."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, overload

from cotrace.common.checks import as_index, check_unicode
from cotrace.common.errors import ArgumentError
from cotrace.graphs.segments import check_name

from .offsets import stands_alone

ROLES = ("question", "hint", "step", "answer", "text")

Content = str | tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """A part of a transcript.

    Attributes:
        role: "question", "hint", "step", "answer", or "text" for everything else, such as a template.
        text: the text, or token ids. Nothing is added between segments: their concatenation is the prompt.
        name: unique in its transcript; the transcript fills in the role, with a number where several have it: "step1".
        value: what the segment states (the result of a step, the answer), as it stands in `text`: a text, or token ids where
            `text` is token ids. Where it occurs several times, the last occurrence that is not part of a longer word or
            number is meant; if there is none, the last one. White space around it does not count.
        value_start: where the value starts in `text`, in characters or ids, if another occurrence is meant.

    Raises:
        ArgumentError: an unknown role, an empty text, or a value that does not occur in the text, or not there.
    """

    role: str
    text: Content
    name: str = ""
    value: Content | None = None
    value_start: int | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ArgumentError(f"invalid role {self.role!r}: expected {', '.join(ROLES)}")
        if self.name != "":
            check_name(self.name)
        object.__setattr__(self, "text", as_content(self.text, f"the text of {self.title}"))
        if self.value is not None:
            object.__setattr__(self, "value", as_content(self.value, f"the value of {self.title}"))
            self._check_value()
        elif self.value_start is not None:
            raise ArgumentError(f"{self.title} has a value_start and no value: give both")

    @property
    def title(self) -> str:
        """The name in quotes, or the role where there is none yet, for messages."""
        if self.name:
            return repr(self.name)
        return f"an {self.role}" if self.role == "answer" else f"a {self.role}"

    @property
    def value_range(self) -> tuple[int, int] | None:
        """The (start, stop) of the value in `text`, in characters or ids, without white space around it; None without one."""
        if self.value is None:
            return None
        return self._ranges()[-1] if self.value_start is None else self._bare_range(self.value_start)

    def with_text(self, text: Any, value: Any = None) -> "Segment":
        """Return the segment with another text, and a value in it; without one, its own value if the text contains it."""
        bare = replace(self, text=text, value=value, value_start=None)
        if value is not None or self.value is None or type(bare.text) is not type(self.text):
            return bare
        return replace(bare, value=self.value) if _occurrences(bare.text, self.value) else bare

    def with_value(self, value: Any) -> "Segment":
        """Return the segment stating another value in the same place.

        Raises ArgumentError if it states none, and for a value of another kind (text, token ids).
        """
        given = as_content(value, f"the new value of {self.title}")
        if self.value_range is None:
            raise ArgumentError(f"{self.title} states no value to replace: give the segment a value first")
        if type(given) is not type(self.text):
            raise ArgumentError(f"the new value {given!r} of {self.title} must be {_kind(self.text)}, as its text is")
        start, stop = self.value_range
        bare = stripped(given)
        text: Any = self.text[:start] + bare + self.text[stop:]  # type: ignore[operator]
        lead = _lead(given)
        if text[start - lead : start - lead + len(given)] == given and start >= lead:
            return replace(self, text=text, value=given, value_start=start - lead)
        return replace(self, text=text, value=bare, value_start=start)

    def _check_value(self) -> None:
        """Raise ArgumentError if the text does not contain the value, or not where it should start."""
        assert self.value is not None
        if type(self.value) is not type(self.text):
            raise ArgumentError(f"the value {self.value!r} of {self.title} must be {_kind(self.text)}, as its text is")
        if not _occurrences(self.text, self.value):
            raise ArgumentError(
                f"{self.title} does not contain its value {self.value!r}: give the value exactly as it stands in the text"
            )
        if self.value_start is None:
            return
        start = as_index(self.value_start, f"value_start of {self.title}")
        if start not in _occurrences(self.text, self.value):
            raise ArgumentError(
                f"the value {self.value!r} of {self.title} does not start at {start}: omit value_start="
            )
        # One value has one form: the usual place goes without saying.
        object.__setattr__(self, "value_start", None if self._bare_range(start) == self._ranges()[-1] else start)

    def _ranges(self) -> list[tuple[int, int]]:
        """Return where the value may be meant, without white space around it, the last occurrence last."""
        assert self.value is not None
        ranges = [self._bare_range(start) for start in _occurrences(self.text, self.value)]
        return [each for each in ranges if _stands_alone(self.text, *each)] or ranges

    def _bare_range(self, start: int) -> tuple[int, int]:
        """Return the range without white space of the value that starts somewhere."""
        assert self.value is not None
        first = start + _lead(self.value)
        return first, first + len(stripped(self.value))


def as_segment(given: Any) -> Segment:
    """Return a segment that is given as one, as `(role, text)` with further fields, or as a mapping of fields.

    Raises ArgumentError for anything else.
    """
    if isinstance(given, Segment):
        return given
    if isinstance(given, Mapping):
        unknown = sorted(map(str, set(given) - {field.name for field in fields(Segment)}))
        if unknown or not {"role", "text"} <= set(given):
            raise ArgumentError(
                f"a segment has {unknown or list(given)}: expected role, text, and perhaps name and value"
            )
        return Segment(**given)
    if isinstance(given, list | tuple) and 2 <= len(given) <= len(fields(Segment)):
        return Segment(*given)
    raise ArgumentError(f"{given!r} is no segment: expected a Segment, or (role, text or token ids)")


def as_content(given: Any, what: str) -> Content:
    """Return a text, or token ids as a tuple. Raises ArgumentError for anything else, and if it is empty."""
    if isinstance(given, str):
        check_unicode(given, f"remove its lone surrogates from {what}")
        if not given:
            raise ArgumentError(f"{what} is empty: leave it out, or give it some text")
        return given
    if hasattr(given, "tolist"):
        given = given.tolist()
    if not isinstance(given, Iterable) or isinstance(given, bytes | Mapping):
        raise ArgumentError(f"{what} is {given!r}: expected a text, or a list of token ids")
    ids = tuple(as_index(each, f"a token id of {what}") for each in given)
    if not ids:
        raise ArgumentError(f"{what} is empty: leave it out, or give it a token")
    return ids


@overload
def stripped(value: str) -> str: ...
@overload
def stripped(value: Content) -> Content: ...
def stripped(value: Content) -> Content:
    """Return a value without white space around it. Raises ArgumentError for a value that is nothing else."""
    bare = value.strip() if isinstance(value, str) else value
    if not bare:
        raise ArgumentError(f"the value {value!r} is only white space: give it a visible character")
    return bare


def _lead(value: Content) -> int:
    """Return how much white space a value begins with."""
    return len(value) - len(value.lstrip()) if isinstance(value, str) else 0


def _occurrences(text: Content, value: Content) -> list[int]:
    """Return where a value starts in a text, overlapping occurrences included."""
    if isinstance(text, str) and isinstance(value, str):
        stripped(value)
        return [found.start() for found in re.finditer(f"(?={re.escape(value)})", text)]
    return [start for start in range(len(text) - len(value) + 1) if text[start : start + len(value)] == value]


def _stands_alone(text: Content, start: int, stop: int) -> bool:
    """Return whether a value is not part of a longer word or number; token ids never are."""
    return not isinstance(text, str) or stands_alone(text[:start], text[start:stop], text[stop:])


def _kind(content: Content) -> str:
    return "a text" if isinstance(content, str) else "token ids"
