"""List and download files of the Hugging Face Hub, with errors that name the cure."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

from cotrace.common.errors import ArgumentError, FileError, HubError, first_line


class HubName(NamedTuple):
    """A repository on the Hub, and a folder and revision in it: `owner/name[/folder…][@revision]`."""

    repo: str
    folder: str
    revision: str | None

    @classmethod
    def parse(cls, text: str) -> "HubName":
        """Parse `owner/name[/folder…][@revision]`. Raises ArgumentError if there is no owner or name."""
        path, _, revision = text.partition("@")
        parts = path.split("/")
        if len(parts) < 2 or not all(parts) or parts[0] in (".", "..", "~"):
            raise ArgumentError(
                f"{text!r} is neither an existing file or folder nor a Hub id; write owner/name[/folder][@revision]"
            )
        return cls("/".join(parts[:2]), "/".join(parts[2:]), revision or None)


def list_repo_files(name: HubName) -> list[str]:
    """Return the paths of all files of a repository; if the Hub cannot be reached, of those in its local cache.

    Raises HubError if the repository cannot be listed.
    """
    try:
        with hub_errors(name.repo):
            info = huggingface_hub.model_info(name.repo, revision=name.revision)  # one request, no retries
            return [file.rfilename for file in info.siblings or []]
    except HubUnreachableError:
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
    """Return a local folder with the files that match `patterns`; downloads files that the Hub's cache lacks.

    Raises HubError if a file cannot be fetched, and FileError if it cannot be saved.
    """
    with hub_errors(name.repo):
        return Path(huggingface_hub.snapshot_download(name.repo, revision=name.revision, allow_patterns=patterns))


class HubUnreachableError(HubError):
    """The Hub does not answer; files in its local cache can still be used."""


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turn errors of the Hub's client into HubError or FileError, one line with the cure; other errors pass through."""
    try:
        yield
    except GatedRepoError as error:
        raise HubError(f"{repo} is gated: accept its terms on its Hub page, then run `hf auth login`") from error
    except RevisionNotFoundError as error:
        raise HubError(f"{repo} has no such revision; check what follows the @") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise HubError(
            f"the Hub has no repository {repo!r}, or you may not see it; check the name or `hf auth login`"
        ) from error
    except HfHubHTTPError as error:
        raise HubUnreachableError(
            f"the Hub refused {repo}: {first_line(error)}; try again later or pass a local folder"
        ) from error
    except (LocalEntryNotFoundError, ConnectionError, TimeoutError, HTTPError) as error:
        why = "HF_HUB_OFFLINE is set: unset it" if huggingface_hub.constants.HF_HUB_OFFLINE else "no network?"
        raise HubUnreachableError(
            f"cannot reach the Hub for {repo} ({why}), and its cache lacks what is needed; "
            "download it elsewhere and pass the local folder instead"
        ) from error
    except OSError as error:
        raise FileError(f"cannot save {repo}: {error}; set HF_HOME to a folder with enough free space") from error
