"""Content hashes of model and transcoder files."""

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cotrace.common.files import atomic_write

from .cache import cache_folder

SHA256 = re.compile("[0-9a-f]{64}$")


def content_hash(paths: Iterable[Path]) -> str:
    """Return the SHA-256 over the SHA-256 of each file, in the order given.

    Files in the Hub's cache are named by their hash. Hashes of local files are cached by path, size and
    modification time, so that a large model is read once.
    """
    hashes = _read_cached_hashes()
    before = dict(hashes)
    combined = hashlib.sha256()
    for path in paths:
        combined.update(_file_hash(path.resolve(), hashes).encode())
    if hashes != before:
        _write_cached_hashes(hashes)
    return combined.hexdigest()


def _file_hash(path: Path, hashes: dict[str, str]) -> str:
    if path.parent.name == "blobs" and len(path.name) == 64:
        return path.name
    stat = path.stat()
    key = f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
    if key not in hashes:
        with path.open("rb") as file:
            hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes[key]


def _read_cached_hashes() -> dict[str, str]:
    """Return the cached hashes; none of a cache that is missing or damaged."""
    path = cache_folder() / "hashes.json"
    try:
        stat = path.stat()
        return dict(_hashes_in(path, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    except (OSError, ValueError, RecursionError):
        return {}


@functools.lru_cache(maxsize=1)
def _hashes_in(path: Path, *state: int) -> dict[str, str]:
    """Return the hashes in a cache file, which is read again only where its state is another one."""
    hashes = json.loads(path.read_text())
    return {key: sha for key, sha in hashes.items() if SHA256.match(str(sha))} if isinstance(hashes, dict) else {}


def _write_cached_hashes(hashes: dict[str, str]) -> None:
    """Write the hashes of files that are still there, so that the cache does not grow with every model that was."""
    found = {key: sha for key, sha in hashes.items() if os.path.exists(key.rsplit(":", 2)[0])}
    # with a read-only cache the files are hashed again next time
    with suppress(OSError), atomic_write(cache_folder() / "hashes.json") as temporary:
        temporary.write_text(json.dumps(found, indent=0))
