"""Where commands write: checked before the work, so that nothing is computed for a folder that takes no files."""

import tempfile
from pathlib import Path


def check_target(path: Path) -> None:
    """Raise ValueError if a file cannot be written under a name."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file")
    check_writable(path.parent)


def check_writable(folder: Path) -> None:
    """Raise ValueError if files cannot be written to a folder; makes it where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to {folder} ({error.strerror}); choose another folder with --out") from error
