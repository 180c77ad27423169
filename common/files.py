"""Atomic file writes, and free disk space."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cotrace.common.checks import check_unicode
from cotrace.common.errors import CotraceError, FileError, ResourceError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; rename it to `path` at the end, delete it after an error.

    Creates the parent folders.

    Raises:
        ResourceError: the disk is full.
        FileError: the file cannot be written for another reason.
    """
    check_unicode(str(path), "choose another path", FileError)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_error(path: Path, error: OSError) -> CotraceError:
    if error.errno in FULL_DISK:
        return ResourceError(
            f"cannot write {path}: the disk of {path.parent} is full; free space, or use another folder"
        )
    reason = error.strerror or " ".join(str(error).split())
    return FileError(f"cannot write {path}: {reason}; choose a path that you may write to")


def free_disk() -> int:
    """Return the number of bytes that are free for temporary files."""
    return shutil.disk_usage(tempfile.gettempdir()).free
