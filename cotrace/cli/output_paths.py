"""Checks of output paths before the work starts, so that nothing is computed for a folder that cannot be written to."""

import tempfile
from pathlib import Path

from cotrace.common.checks import check_unicode
from cotrace.common.errors import FileError


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
