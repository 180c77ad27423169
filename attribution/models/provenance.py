"""Where things come from: content hashes, the cache folder, and the Hugging Face Hub."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from cotrace.common.errors import CotraceError
from cotrace.common.files import atomic_write


def cache_folder() -> Path:
    """Where converted models and hashes are kept: $COTRACE_CACHE, or ~/.cache/cotrace."""
    return Path(os.environ.get("COTRACE_CACHE") or Path.home() / ".cache" / "cotrace")


def versions() -> dict[str, str]:
    """Versions of the software that decides a graph's numbers."""
    return {name: version(name) for name in ("cotrace", "torch", "transformers")}


def content_hash(paths: Iterable[Path]) -> str:
    """SHA-256 over the SHA-256 of each file, in the order given.

    A file in the Hub's cache is named by its hash already; hashes of local files are remembered by
    path, size and modification time, so that a large model is read once.
    """
    remembered = _read_remembered()
    before = dict(remembered)
    combined = hashlib.sha256()
    for path in paths:
        combined.update(_file_hash(path.resolve(), remembered).encode())
    if remembered != before:
        _write_remembered(remembered)
    return combined.hexdigest()


def _file_hash(path: Path, remembered: dict[str, str]) -> str:
    if path.parent.name == "blobs" and len(path.name) == 64:
        return path.name
    stat = path.stat()
    key = f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
    if key not in remembered:
        with path.open("rb") as file:
            remembered[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return remembered[key]


def _read_remembered() -> dict[str, str]:
    try:
        return json.loads((cache_folder() / "hashes.json").read_text())
    except (OSError, ValueError):
        return {}


def _write_remembered(remembered: dict[str, str]) -> None:
    # a read-only cache only means hashing again
    with suppress(OSError), atomic_write(cache_folder() / "hashes.json") as temporary:
        temporary.write_text(json.dumps(remembered, indent=0))


class HubName(NamedTuple):
    """A place on the Hub: owner/name[/folder…][@revision]."""

    repo: str
    folder: str
    revision: str | None

    @classmethod
    def parse(cls, text: str) -> "HubName":
        """Split owner/name[/folder…][@revision]; raises ValueError if there is no owner or name."""
        path, _, revision = text.partition("@")
        parts = path.split("/")
        if len(parts) < 2 or not all(parts) or parts[0] in (".", "..", "~"):
            raise CotraceError(
                f"{text!r} is neither an existing file or folder nor a Hub id; write owner/name[/folder][@revision]"
            )
        return cls("/".join(parts[:2]), "/".join(parts[2:]), revision or None)


def list_hub(name: HubName) -> list[str]:
    """Paths of all files of a repository, of the Hub's cache where the Hub cannot be reached.

    Raises ValueError with the cure if it cannot be listed.
    """
    try:
        with explained(name.repo):
            info = huggingface_hub.model_info(name.repo, revision=name.revision)  # one request, no retries
            return [file.rfilename for file in info.siblings or []]
    except Unreachable:
        cached = _cached_snapshot(name)
        if cached is None:
            raise
        return [str(path.relative_to(cached)) for path in cached.rglob("*") if path.is_file()]


def _cached_snapshot(name: HubName) -> Path | None:
    with suppress(LocalEntryNotFoundError):
        return Path(
            huggingface_hub.snapshot_download(
                name.repo, revision=name.revision, allow_patterns=[], local_files_only=True
            )
        )
    return None


def download(name: HubName, patterns: list[str]) -> Path:
    """Folder with the files that match; downloads what the Hub's cache lacks, with its progress bar."""
    with explained(name.repo):
        return Path(huggingface_hub.snapshot_download(name.repo, revision=name.revision, allow_patterns=patterns))


class Unreachable(ValueError):
    """The Hub cannot be asked; what is in its cache can still be used."""


@contextmanager
def explained(repo: str) -> Iterator[None]:
    """Turn the Hub's errors into one line that names the cure; other errors pass through."""
    try:
        yield
    except GatedRepoError as error:
        raise CotraceError(f"{repo} is gated: accept its terms on its Hub page, then run `hf auth login`") from error
    except RevisionNotFoundError as error:
        raise CotraceError(f"{repo} has no such revision; check what follows the @") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CotraceError(
            f"the Hub has no repository {repo!r}, or you may not see it; check the name or `hf auth login`"
        ) from error
    except HfHubHTTPError as error:
        refusal = str(error).splitlines()[0]
        raise Unreachable(f"the Hub refused {repo}: {refusal}; try again later or pass a local folder") from error
    except (LocalEntryNotFoundError, ConnectionError, TimeoutError, HTTPError) as error:
        why = "HF_HUB_OFFLINE is set: unset it" if huggingface_hub.constants.HF_HUB_OFFLINE else "no network?"
        raise Unreachable(
            f"cannot reach the Hub for {repo} ({why}), and its cache lacks what is needed; "
            "download it elsewhere and pass the local folder instead"
        ) from error
    except OSError as error:
        raise CotraceError(f"cannot save {repo}: {error}; set HF_HOME to a folder with enough free space") from error
