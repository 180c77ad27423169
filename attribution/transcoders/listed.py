"""Transcoders whose files are listed in a config: circuit-tracer's `transcoders: [hf://owner/name/path, …]`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from cotrace.attribution.models.hub import HubName, download, list_repo_files
from cotrace.common.errors import FileError, HubError

from .formats import FORMATS, TranscoderSet

KEY = "transcoders"


class ListedFile(NamedTuple):
    """One layer's file: a path in a repository of the Hub, or a local path where there is no repository."""

    repo: HubName | None
    path: str


class ListedSet(NamedTuple):
    """Transcoders that a config lists.

    Attributes:
        config_path: the config.
        config: its contents.
        files: the file of each layer.
    """

    config_path: Path
    config: dict[str, Any]
    files: Sequence[ListedFile]

    @property
    def repos(self) -> list[HubName]:
        """The repositories that hold the files, each once."""
        return list(dict.fromkeys(file.repo for file in self.files if file.repo is not None))


def read_list(path: Path, config: dict[str, Any]) -> ListedSet | None:
    """Return the transcoders that a config lists, or None if it lists none. Raises FileError for a malformed list."""
    listed = config.get(KEY)
    if listed is None:
        return None
    if not isinstance(listed, list) or not listed or not all(isinstance(item, str) for item in listed):
        raise FileError(f"{path} should list the file of each layer under {KEY}: hf://owner/name/path or a local path")
    return ListedSet(path, config, [_parse(path, item) for item in listed])


def _parse(config_path: Path, item: str) -> ListedFile:
    """Parse `hf://owner/name/path[?revision=…]`, as circuit-tracer does, or a path relative to the config."""
    if "://" not in item:
        return ListedFile(None, str((config_path.parent / Path(item).expanduser()).absolute()))
    parts = urlsplit(item)
    name, _, path = parts.path.strip("/").partition("/")
    if parts.scheme != "hf" or not parts.netloc or not name or not path:
        raise FileError(f"{config_path} lists {item!r}: expected hf://owner/name/path or a local path")
    revision = parse_qs(parts.query).get("revision", [None])[0]
    name, _, at = name.partition("@")
    return ListedFile(HubName(f"{parts.netloc}/{name}", "", revision or at or None), path)


def as_set(listed: ListedSet) -> TranscoderSet:
    """Return the format and paths of listed files, whose order is that of the layers.

    Raises FileError for files of an unknown format, of several formats, or in another order than their names say.
    """
    files: dict[int, list[str]] = {}
    formats = set()
    for layer, file in enumerate(listed.files):
        found = [(each, match) for each in FORMATS if (match := each.path.fullmatch(file.path))]
        if not found:
            raise FileError(
                f"{listed.config_path} lists {file.path}, which is not a transcoder file that cotrace reads; see "
                "docs/transcoder-files.md for the formats"
            )
        (layout, match), *_ = found
        formats.add(layout.name)
        if int(match["layer"]) != layer or len(layout.files_per_layer) > 1 or len(formats) > 1:
            raise FileError(
                f"{listed.config_path} lists {file.path} for layer {layer}; list one file of the same format for each layer, in order"
            )
        files[layer] = [file.path]
    return TranscoderSet("", layout, files=files)


def download_listed(listed: ListedSet, config_names: Sequence[str]) -> tuple[dict[str, Path], str | None]:
    """Download the listed files, and the configs beside them.

    Returns the local path of each listed path, and the commit where all files are of one repository. Raises HubError,
    which names the repository, if a file cannot be fetched.
    """
    local = {file.path: Path(file.path) for file in listed.files if file.repo is None}
    commits = []
    for repo in listed.repos:
        wanted = [file.path for file in listed.files if file.repo == repo]
        beside = {str(Path(path).parent / name) for path in wanted for name in config_names}
        try:
            present = list_repo_files(repo)
            absent = [path for path in wanted if path not in present]
            if absent:
                raise FileError(
                    f"{listed.config_path} lists {absent[0]}, which {repo.repo} does not have; correct the list"
                )
            snapshot = download(repo, [*wanted, *sorted(beside & set(present))])
        except HubError as error:
            raise HubError(f"{listed.config_path} lists files of {repo.repo}: {error}") from error
        commits.append(snapshot.name)
        local |= {path: snapshot / path for path in wanted}
    missing = [path for path in local.values() if not path.is_file()]
    if missing:
        raise FileError(f"{listed.config_path} lists {missing[0]}, which does not exist; correct the list")
    return local, commits[0] if len(commits) == 1 and len(local) == len(listed.files) else None
