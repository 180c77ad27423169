"""Where results are written: names that tell them apart, checks before the work starts, and no result overwritten."""

import filecmp
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cotrace.common.checks import check_unicode
from cotrace.common.errors import CotraceError, FileError

HASH_DIGITS = 8
MAX_NAME_BYTES = 120  # of the words in a name; suffixes and hashes come on top of them


def check_file(path: Path, option: str = "--out") -> None:
    """Raise FileError if a file cannot be written to a path, which `option` chooses."""
    if path.is_dir():
        raise FileError(f"{path} is a folder; name a file with {option}")
    check_folder(path.parent, option)


def check_folder(folder: Path, option: str = "--out") -> None:
    """Raise FileError if files cannot be written to a folder.

    A folder that does not exist is not created, so that a command that fails later leaves nothing behind; its nearest
    existing parent is checked instead.
    """
    check_unicode(str(folder), f"choose another folder with {option}", FileError)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise FileError(f"cannot write to {folder} ({error.strerror}); choose another folder with {option}") from error


def check_free(path: Path, option: str, force: bool) -> None:
    """Raise FileError if a path that the user gave is a file, unless `force` allows to overwrite it."""
    if path.exists() and not force:
        raise FileError(f"{path} exists; add --force to overwrite it, or choose another name with {option}")


def save_result(path: Path, save: Callable[[Path], Any], *, force: bool, option: str = "") -> Path:
    """Write a result without overwriting other content, and return its path.

    A file of the same content is replaced; with `force`, any file is.

    Args:
        path: where to write.
        save: a function that writes the result to a path.
        force: overwrite files.
        option: the option with which the user gave the path. If other content is there, such a path is refused; a path
            that the program chose gets a hash of the new content in its name.

    Raises:
        FileError: other content is at the path that the user gave, or the file cannot be written.
    """
    if force or not path.exists():
        save(path)
        return path
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".cotrace-") as folder:
        draft = Path(folder) / path.name
        try:
            save(draft)
        except CotraceError as error:
            raise type(error)(str(error).replace(str(draft), str(path))) from error
        if not filecmp.cmp(draft, path, shallow=False):
            if option:
                check_free(path, option, force)
            path = with_ending(path, f"-{_digest(draft.read_bytes())}")
        os.replace(draft, path)
    return path


def with_ending(path: Path, ending: str) -> Path:
    """Return a path with an ending after its name, before its suffixes .arrow, .arrow.zst, .svg, …"""
    suffix = ".arrow.zst" if path.name.endswith(".arrow.zst") else path.suffix
    return path.with_name(f"{path.name.removesuffix(suffix)}{ending}{suffix}")


def file_stem(prompt: str, targets: Sequence[str] = (), position: Sequence[str] = (), chat: bool = False) -> str:
    """Return a file name for what is asked of a prompt: its words, targets and positions.

    A short hash is added unless the name says it all: `the-sky-is` is "The sky is" with default targets, exactly.
    """
    name = words(prompt) or "prompt"
    for option, texts in (("to", targets), ("at", position)):
        name += "".join(f"-{option}-{words(text)}" for text in texts[:3])
    if not (targets or position or chat) and name.replace("-", " ").capitalize() == prompt:
        return name
    asked = json.dumps([prompt, list(targets), list(position), chat])
    return f"{_cut(name)}-{_digest(asked.encode())}"


def words(text: str, length: int = 60) -> str:
    """Return the words of a text, joined with dashes, cut to a length."""
    return _cut(re.sub(r"[^\w]+", "-", text.lower()).strip("-")[:length])


def _cut(name: str) -> str:
    return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip("-")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:HASH_DIGITS]
