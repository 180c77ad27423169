"""Files that are written whole or not at all, and the room for them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; becomes `path` if nothing fails, and is gone if it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def free_disk() -> int:
    """Bytes that are free for temporary files."""
    return shutil.disk_usage(tempfile.gettempdir()).free
