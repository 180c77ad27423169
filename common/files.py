"""Atomic file writes, and free disk space."""

import errno
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cotrace.common.checks import check_unicode
from cotrace.common.errors import CotraceError, FileError, ResourceError, one_line

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
PART_SUFFIX = ".part"
MAX_STEM = 50  # characters of a name in a hidden one, which may be 255 bytes long


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; rename it to `path` at the end, delete it after an error.

    Creates the parent folders. A file that was there keeps its mode; its temporary file, which exists already, is the
    owner's alone. After this the file is on the disk, also if the machine loses power. Of several processes
    or threads that write to one path at once, each writes a whole file, and the last one stays.

    Raises:
        ResourceError: the disk is full.
        FileError: the file cannot be written for another reason.
    """
    check_unicode(str(path), "choose another path", FileError)
    if not path.name or "\0" in str(path):
        raise FileError(f"{str(path)!r} does not name a file; choose another path")
    temporary = hidden_beside(path, PART_SUFFIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            temporary.touch(0o600)  # a private file is private while it is written too
        yield temporary
        _sync(temporary)
        with suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def publish_folder(finished: Path, path: Path, *, replace: bool = False) -> None:
    """Rename a folder to `path` on the same disk, when everything in it is written to the disk.

    Without `replace` there must be no folder `path`, or an empty one. With it an older folder is deleted afterwards: a
    process that is killed leaves the older one or the new one, whole; in the instant between two renames the older one
    has a hidden name. Raises OSError.
    """
    for each in (*finished.rglob("*"), finished):
        _sync(each)
    older = hidden_beside(path, ".older")
    if replace:
        with suppress(FileNotFoundError):
            os.rename(path, older)
    os.rename(finished, path)
    _sync(path.parent)
    shutil.rmtree(older, ignore_errors=True)


def hidden_beside(path: Path, suffix: str) -> Path:
    """Return an unused hidden path in the same folder: no other process or thread gets the same one."""
    return path.with_name(f".{path.name[:MAX_STEM]}.{uuid.uuid4().hex}{suffix}")


@contextmanager
def locked(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock of a file, which is created: one process or thread at a time; a killed process gives it back.

    `waiting` is called if another one holds it. On Windows there is no lock. Raises OSError.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    if path.is_dir() and sys.platform == "win32":
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_error(path: Path, error: OSError) -> CotraceError:
    if error.errno in FULL_DISK:
        return ResourceError(
            f"cannot write {path}: the disk of {path.parent} is full; free space, or use another folder"
        )
    reason = error.strerror or one_line(error)
    return FileError(f"cannot write {path}: {reason}; choose a path that you may write to")


def free_disk() -> int:
    """Return the number of bytes that are free for temporary files."""
    return shutil.disk_usage(tempfile.gettempdir()).free
