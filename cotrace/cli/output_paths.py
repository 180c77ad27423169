"""Where commands write: checked before the work, so that nothing is computed for a folder that takes no files."""

import tempfile
from pathlib import Path

from cotrace.common.errors import CotraceError


def check_target(path: Path, option: str = "--out") -> None:
    """Raise ValueError if a file cannot be written under a name, which `option` chooses."""
    if path.is_dir():
        raise CotraceError(f"{path} is a folder; name a file with {option}")
    check_writable(path.parent, option)


def check_writable(folder: Path, option: str = "--out") -> None:
    """Raise ValueError if files cannot be written to a folder; makes it where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CotraceError(
            f"cannot write to {folder} ({error.strerror}); choose another folder with {option}"
        ) from error
