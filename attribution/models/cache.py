"""The cache folder for converted models and content hashes."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder: `$COTRACE_CACHE`, or `~/.cache/cotrace`."""
    return Path(os.environ.get("COTRACE_CACHE") or Path.home() / ".cache" / "cotrace")
