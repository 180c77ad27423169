"""The result folder of a batch: graphs, one record per prompt, and the settings of the run."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from cotrace.common.errors import ArgumentError, FileError, ResourceError
from cotrace.common.files import FULL_DISK, atomic_write
from cotrace.graphs.store import save_table

from .file_layout import CIRCUIT_FILE, FULL_FILE, FULL_FOLDER, RECORDS, SETTINGS, partition

OTHER_FOLDER = "choose another folder with --out"


@dataclass(frozen=True)
class PromptResult:
    """The record of one prompt and, if it did not fail, the node tables of its graphs."""

    record: dict[str, Any]
    circuit: pa.Table | None = None
    full: pa.Table | None = None


class ResultStore:
    """An open result folder, which no other process can write to. `open_folder` makes one."""

    def __init__(self, path: Path, log: BinaryIO, done: dict[str, str]):
        self.path, self._log, self._done = path, log, done

    def done_records(self) -> list[dict[str, Any]]:
        """Return the last record of each prompt that is done and has its graph, in the order of the first."""
        self._log.seek(0)
        records = {partition(record["id"]): record for record in map(json.loads, self._log)}
        self._log.seek(0, os.SEEK_END)
        return [
            record
            for name, record in records.items()
            if record["status"] == "done" and (self.path / name / CIRCUIT_FILE).is_file()
        ]

    def is_done(self, name: str, digest: str) -> bool:
        """Return whether the folder of a prompt has its graph. Raises ArgumentError if the graph is of another prompt."""
        recorded = self._done.get(name)
        if recorded is None or not (self.path / name / CIRCUIT_FILE).is_file():
            return False
        if recorded != digest:
            raise ArgumentError(
                f"{self.path / name} has the graph of another prompt or other targets; {OTHER_FOLDER}, or change the id"
            )
        return True

    def unfinished(self, digests: Mapping[str, str]) -> set[str]:
        """Return the folder names, of the given digests by folder name, that have no finished result."""
        return {name for name, digest in digests.items() if not self.is_done(name, digest)}

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Raise ArgumentError if the folder has results of other settings."""
        if not self._done:
            return
        path = self.path / SETTINGS
        try:
            recorded = json.loads(path.read_text())
            differing = sorted(name for name, value in settings.items() if recorded.get(name) != value)
        except (OSError, ValueError, AttributeError) as error:
            raise FileError(f"{path} is damaged; {OTHER_FOLDER}") from error
        if differing:
            raise ArgumentError(f"{self.path} has results of other settings ({', '.join(differing)}); {OTHER_FOLDER}")

    def record_settings(self, settings: Mapping[str, Any]) -> None:
        """Write the settings. Raises ArgumentError if the folder has results of other settings."""
        self.check_settings(settings)
        if self._done:
            return
        with atomic_write(self.path / SETTINGS) as temporary:
            temporary.write_text(json.dumps(settings, indent=2) + "\n")

    def save(self, result: PromptResult) -> None:
        """Write the graphs of a prompt, then its record: a prompt with a record is done.

        Raises ResourceError for a full disk, FileError if the folder cannot be written to.
        """
        name = partition(result.record["id"])
        for table, path in (
            (result.full, self.path / FULL_FOLDER / name / FULL_FILE),
            (result.circuit, self.path / name / CIRCUIT_FILE),
        ):
            if table is not None:
                for abandoned in path.parent.glob(".*.part"):  # left by a killed process
                    abandoned.unlink()
                save_table(table, path)
        with _write_errors(self.path / RECORDS):
            self._log.write(json.dumps(result.record).encode() + b"\n")
            self._log.flush()


@contextmanager
def open_folder(path: Path) -> Iterator[ResultStore]:
    """Open a result folder for this process alone; create it if it does not exist.

    Removes a last record that is incomplete because a process was killed. Raises FileError if the folder contains other
    files, is in use, has damaged records, or cannot be written to.
    """
    with _write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    if not (path / SETTINGS).is_file() and any(entry.name[0] not in "_." for entry in path.iterdir()):
        raise FileError(f"{path} contains other files, which would mix with the results; {OTHER_FOLDER}")
    with _write_errors(path / RECORDS):
        log = (path / RECORDS).open("ab+")
    with log:
        _lock(log, path)
        yield ResultStore(path, log, _read_done(log, path / RECORDS))


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Raise FileError or ResourceError in place of the file system's errors."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise ResourceError(f"cannot write {path}: the disk is full; free space, or {OTHER_FOLDER}") from error
        raise FileError(f"cannot write {path} ({error.strerror}); {OTHER_FOLDER}") from error


def _lock(log: BinaryIO, path: Path) -> None:
    """Lock the folder until this process ends, in any way."""
    if sys.platform == "win32":
        return  # Windows has no such locks: users must not start two runs at once
    import fcntl

    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileError(f"another process is writing to {path}; wait for it, or {OTHER_FOLDER}") from error


def _read_done(log: BinaryIO, path: Path) -> dict[str, str]:
    """Return the digests of the prompts that are done, by folder name."""
    done: dict[str, str] = {}
    log.seek(0)
    complete_bytes = 0
    for number, line in enumerate(log, 1):
        if not line.endswith(b"\n"):
            break
        complete_bytes += len(line)
        try:
            record = json.loads(line)
            name, is_done, digest = partition(record["id"]), record["status"] == "done", record["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(f"{path}, line {number} is damaged; remove it, and its prompt is traced again") from error
        if is_done:
            done[name] = digest
    log.truncate(complete_bytes)
    log.seek(0, os.SEEK_END)
    return done
