"""Read one large JSON object piece by piece: its long lists item by item, all else value by value.

Knows nothing about graphs. Python's own decoder reads each value; what is here finds where values begin and end in a file
that is read in chunks.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from cotrace.common.errors import FileError

CHUNK_CHARACTERS = 2**20
MAX_VALUE_CHARACTERS = 2**25
"""The longest value, or item of a list that is read item by item."""
_SPACE = " \t\n\r"


def read_entries(path: Path, lists: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of the JSON object in a file, in its order.

    The value of a key in `lists` is an iterator over the items of a list, to be used up before the next key.

    Raises FileError for a file that is not UTF-8, not JSON, no object, or has a key twice, infinite numbers, numbers of
    thousands of digits, or values above `MAX_VALUE_CHARACTERS` or nested hundreds of levels deep.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _Pieces(file).entries(lists)
    except UnicodeDecodeError as error:
        raise FileError("it is not UTF-8; export it again") from error
    except OSError as error:
        raise FileError(f"it cannot be read ({error.strerror}); check the path") from error


class _Pieces:
    """The part of a file that is in memory, and where reading has come to in it."""

    def __init__(self, file: IO[str]):
        self._file, self._text, self._at, self._dropped = file, "", 0, 0
        self._at_end = False
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object)

    def entries(self, lists: Collection[str]) -> Iterator[tuple[str, Any]]:
        """Yield the entries of the object, and check that nothing follows it."""
        self._take("{")
        seen: set[str] = set()
        while not (self._next() == "}" and not seen):
            key = self._value()
            if not isinstance(key, str) or key in seen:
                raise FileError(f"its key {key!r} occurs twice or is not a text; export it again")
            seen.add(key)
            self._take(":")
            if key in lists:
                items = self._items()
                yield key, items
                for _ in items:
                    pass
            else:
                yield key, self._value()
            if self._next() == "}":
                break
            self._take(",")
        self._take("}")
        if self._next():
            self._fail("text follows the JSON object")

    def _items(self) -> Iterator[Any]:
        self._take("[")
        if self._next() == "]":
            self._take("]")
            return
        while True:
            yield self._value()
            if self._next() == "]":
                break
            self._take(",")
        self._take("]")

    def _value(self) -> Any:
        """Return the next value."""
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._fill():
                    self._fail(error.msg)
            except RecursionError as error:
                raise FileError("its values are nested too deep; export it again") from error
            except FileError:
                raise
            except ValueError as error:
                raise FileError(f"it has a number of thousands of digits ({error}); export it again") from error
            else:
                if end < len(self._text) or not self._fill():  # at the end of a chunk a number may go on
                    self._at = end
                    return value

    def _next(self) -> str:
        """Return the next character that is not a space, without taking it; "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def _take(self, expected: str) -> None:
        found = self._next()
        if found != expected:
            self._fail(f"expected {expected!r}, found {found!r}" if found else "it ends too early")
        self._at += 1

    def _fill(self) -> bool:
        """Read more, at least as much as is left in memory; return False at the end of the file."""
        left = self._text[self._at :]
        if self._at_end:
            return False
        if len(left) > MAX_VALUE_CHARACTERS:
            self._fail(f"a value has more than {MAX_VALUE_CHARACTERS:,} characters, or is not JSON")
        more = self._file.read(max(CHUNK_CHARACTERS, len(left)))
        self._at_end = not more
        self._dropped += self._at
        self._text, self._at = left + more, 0
        return bool(more)

    def _fail(self, reason: str) -> NoReturn:
        place = f"after {self._dropped + self._at:,} characters"
        raise FileError(f"it is not valid JSON {place} ({reason}); export or download it again")


def _refuse_constant(name: str) -> NoReturn:
    raise FileError(f"it has the number {name}, which JSON does not know; export it again with finite numbers")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise FileError(f"an object has the key {twice!r} twice; export it again")
    return entries
