"""The folder that many prompts' results go to: graphs, a record a prompt, and the settings they were made with."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from cotrace.common.errors import CotraceError
from cotrace.common.files import atomic_write
from cotrace.graphs.store import save_table

from .file_layout import CIRCUIT_FILE, FULL, FULL_FILE, RECORDS, SETTINGS, partition

ELSEWHERE = "choose another folder with --out"


@dataclass(frozen=True)
class PromptResult:
    """What became of one prompt: its record, and its graphs' node tables, if it did not fail."""

    record: dict[str, Any]
    circuit: pa.Table | None = None
    full: pa.Table | None = None


class ResultStore:
    """An open folder of results; nobody else may write to it meanwhile. Get one from `open_folder`."""

    def __init__(self, path: Path, log: BinaryIO, done: dict[str, str]):
        self.path, self._log, self._done = path, log, done

    def is_done(self, name: str, digest: str) -> bool:
        """Whether the prompt with that folder name has its graph; ValueError if it is another prompt's."""
        recorded = self._done.get(name)
        if recorded is None or not (self.path / name / CIRCUIT_FILE).is_file():
            return False
        if recorded != digest:
            raise CotraceError(
                f"{self.path / name} is of another prompt or other targets; {ELSEWHERE}, or change the id"
            )
        return True

    def require_same(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError if results that are there were made with other settings than these."""
        if not self._done:
            return
        path = self.path / SETTINGS
        try:
            recorded = json.loads(path.read_text())
            differing = sorted(name for name, value in settings.items() if recorded.get(name) != value)
        except (ValueError, AttributeError) as error:
            raise CotraceError(f"{path} is damaged; {ELSEWHERE}") from error
        if differing:
            raise CotraceError(f"{self.path} holds results of other settings ({', '.join(differing)}); {ELSEWHERE}")

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Record the settings, or raise CotraceError if results that are there were made with others."""
        self.require_same(settings)
        if self._done:
            return
        with atomic_write(self.path / SETTINGS) as temporary:
            temporary.write_text(json.dumps(settings, indent=2) + "\n")

    def save(self, outcome: PromptResult) -> None:
        """Write a prompt's graphs, then its record: a prompt with a record is done."""
        name = partition(outcome.record["id"])
        for table, path in (
            (outcome.full, self.path / FULL / name / FULL_FILE),
            (outcome.circuit, self.path / name / CIRCUIT_FILE),
        ):
            if table is not None:
                for abandoned in path.parent.glob(".*.part"):  # by a process that was killed
                    abandoned.unlink()
                save_table(table, path)
        self._log.write(json.dumps(outcome.record).encode() + b"\n")
        self._log.flush()


@contextmanager
def open_folder(path: Path) -> Iterator[ResultStore]:
    """Open a folder of results, made if it is not there, for this process alone.

    Raises ValueError if it holds other things, is in use, or its records are damaged. A last record that was cut
    short, when a process was killed, is removed.
    """
    path.mkdir(parents=True, exist_ok=True)
    if not (path / SETTINGS).is_file() and any(entry.name[0] not in "_." for entry in path.iterdir()):
        raise CotraceError(f"{path} holds other files, which would mix with the results; {ELSEWHERE}")
    with (path / RECORDS).open("ab+") as log:
        _lock(log, path)
        yield ResultStore(path, log, _read_done(log, path / RECORDS))


def _lock(log: BinaryIO, path: Path) -> None:
    """Keep other processes out until this one ends, however it does."""
    if sys.platform == "win32":
        return  # it has no such locks: there it is the user who must not start two at once
    import fcntl

    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CotraceError(f"another process is writing to {path}; wait for it, or {ELSEWHERE}") from error


def _read_done(log: BinaryIO, path: Path) -> dict[str, str]:
    """Digests of the prompts that are done, by folder name."""
    done: dict[str, str] = {}
    log.seek(0)
    whole = 0
    for number, line in enumerate(log, 1):
        if not line.endswith(b"\n"):
            break
        whole += len(line)
        try:
            record = json.loads(line)
            name, is_done, digest = partition(record["id"]), record["status"] == "done", record["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise CotraceError(
                f"{path}, line {number} is damaged; remove it, and its prompt is traced again"
            ) from error
        if is_done:
            done[name] = digest
    log.truncate(whole)
    log.seek(0, os.SEEK_END)
    return done
