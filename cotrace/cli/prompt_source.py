"""Where a prompt comes from: the command line, a file, or standard input."""

import re
import sys
from pathlib import Path

from cotrace.common.errors import ArgumentError, FileError, PromptError

STANDARD_INPUT = "-"


def read_prompt(prompt: str | None, file: Path | None, option: str = "--prompt-file") -> str:
    """Return the text of PROMPT or of --prompt-file; `-` in place of either is standard input.

    `option` names the file in messages. One line break at the end of a file or of standard input is left out, since editors and `echo` add it.

    Raises:
        ArgumentError: both are given, or neither.
        FileError: the file cannot be read.
        PromptError: the text is empty or not UTF-8.
    """
    if (prompt is None) == (file is None):
        raise ArgumentError(
            "give PROMPT, or --prompt-file FILE with its text; - in place of either reads standard input"
        )
    if prompt is not None and prompt != STANDARD_INPUT:
        return _checked(prompt, "the prompt")
    if file is None or str(file) == STANDARD_INPUT:
        return _text(sys.stdin.buffer.read(), "standard input")
    try:
        return _text(file.read_bytes(), str(file))
    except OSError as error:
        raise FileError(f"cannot read {file} ({error.strerror}); name a text file with {option}") from error


def _text(content: bytes, where: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(
            f"{where} is not UTF-8 text (byte {error.start:,}); convert it, for example with iconv"
        ) from error
    return _checked(re.sub(r"\r?\n\Z", "", text), where)


def _checked(text: str, where: str) -> str:
    if not text:
        raise PromptError(f"{where} is empty; write some text")
    return text
