"""Checks of values that users give."""

import operator
from typing import Any

from cotrace.common.errors import ArgumentError, CotraceError


def as_index(value: Any, what: str) -> int:
    """Return an integer of any library as an int.

    `what` names the value in the message. Raises ArgumentError for everything else, booleans included.
    """
    try:
        if isinstance(value, bool) or getattr(value, "ndim", 0) > 0 or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError
        return operator.index(value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{what} is {value!r}; it must be an integer") from error


def check_unicode(text: str, cure: str, error: type[CotraceError] = ArgumentError) -> None:
    """Raise `error`, with a `cure`, for a text with lone surrogates, which stand for bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise error(f"{text!a} is not valid Unicode: {cure}") from cause
