"""The working folder of a build: its sequences, and runs, each with the tallies of some sequences.

A run is a folder `runs/FIRST-STOP` for sequences FIRST to STOP - 1, with a file for each layer. It appears whole or not at all, so that a
build that is killed at any time continues behind the last run. Of about equally large runs, `FAN_IN` are merged into one, so
that the folder grows as slowly as the merged tallies.
"""

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cotrace.common.errors import FileError, one_line
from cotrace.common.files import atomic_write, hidden_beside, publish_folder
from cotrace.kernels.workers import Workers, n_workers

from . import tally as tallies
from .sequences import SourceText
from .tally import Tally, TallyRules

WORK_FOLDER, BUILD_FILE, TEXT_FILE, RUN_FILE = "unfinished", "build.json", "text.npz", "run.json"
FAN_IN = 4


@dataclass(frozen=True, order=True)
class TallyRun:
    """The run of some sequences."""

    first: int
    stop: int
    folder: Path

    def layer_file(self, index: int) -> Path:
        """Return the file of the tally of a layer, by its index."""
        return self.folder / f"layer-{index}.safetensors"

    def sums(self) -> dict[str, float]:
        """Return what a run adds up besides tallies."""
        return _read_json(self.folder / RUN_FILE)


class WorkFolder:
    """The working folder of a build in the folder of its store."""

    def __init__(self, out: Path):
        self.path = out / WORK_FOLDER
        self.runs_folder = self.path / "runs"

    def open(self, identity: dict[str, Any]) -> bool:
        """Create the folder, or check that it is of the same build; return whether it has its sequences.

        Raises FileError for a folder of another build, or of something else.
        """
        file = self.path / BUILD_FILE
        if self.path.exists() and not file.is_file() and any(not path.name.startswith(".") for path in self.path.iterdir()):
            raise FileError(f"{self.path} is not of a build: choose another folder for the store")
        for leftover in self.runs_folder.glob(".*"):  # of a killed process
            shutil.rmtree(leftover, ignore_errors=True)
        if not file.is_file():
            with atomic_write(file) as temporary:
                temporary.write_text(json.dumps(identity, indent=1))
        found = _read_json(file)
        different = [name for name in identity if identity[name] != found.get(name)]
        if different:
            raise FileError(
                f"{self.path} is of a build with another {' and '.join(different)}: restore it, remove the folder, or "
                "choose another one"
            )
        return (self.path / TEXT_FILE).is_file()

    def save_text(self, text: SourceText) -> None:
        """Write the sequences."""
        with atomic_write(self.path / TEXT_FILE) as temporary, temporary.open("wb") as file:
            np.savez(file, **text._asdict())

    def load_text(self) -> SourceText:
        """Return the sequences. Raises FileError if they are damaged."""
        path = self.path / TEXT_FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return SourceText(**{name: arrays[name] for name in SourceText._fields})
        except Exception as error:  # numpy raises errors of many kinds for a damaged file
            raise FileError(f"{path} is damaged ({one_line(error)}): remove {self.path}") from error

    def runs(self) -> list[TallyRun]:
        """Return the runs from the first sequence on without gaps; remove those that a larger one contains."""
        found = []
        for folder in self.runs_folder.glob("*-*"):
            if match := re.fullmatch(r"(\d+)-(\d+)", folder.name):
                found.append(TallyRun(int(match[1]), int(match[2]), folder))
        chosen: list[TallyRun] = []
        for run in sorted(found, key=lambda run: (run.first, -run.stop)):
            if chosen and run.stop <= chosen[-1].stop:
                shutil.rmtree(run.folder, ignore_errors=True)  # merged, and left by a killed process
            elif run.first == (chosen[-1].stop if chosen else 0):
                chosen.append(run)
        return chosen

    def add(self, first: int, stop: int, layers: Iterable[Tally], sums: dict[str, float]) -> TallyRun:
        """Write the run of some sequences."""
        final = TallyRun(first, stop, self.runs_folder / f"{first}-{stop}")
        self.runs_folder.mkdir(parents=True, exist_ok=True)
        draft = TallyRun(first, stop, hidden_beside(final.folder, ".part"))
        draft.folder.mkdir()
        for index, tally in enumerate(layers):
            tallies.save(tally, draft.layer_file(index))
        (draft.folder / RUN_FILE).write_text(json.dumps(sums))
        publish_folder(draft.folder, final.folder)
        return final

    def merge_small(self, widths: Sequence[int], rules: TallyRules) -> None:
        """Merge the last runs as long as `FAN_IN` of them are about equally large."""
        while True:
            runs = self.runs()[-FAN_IN:]
            sizes = [run.stop - run.first for run in runs]
            if len(runs) < FAN_IN or max(sizes) > 2 * min(sizes):
                return
            parts = [(runs, index, slice(0, width), rules) for index, width in enumerate(widths)]
            with Workers(n_workers()) as workers:
                layers = workers.map(lambda part: merged(*part), parts)
                self.add(runs[0].first, runs[-1].stop, layers, sum_up(runs))
            for run in runs:
                shutil.rmtree(run.folder)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path)


def merged(runs: Sequence[TallyRun], index: int, features: slice, rules: TallyRules) -> Tally:
    """Return the tally of a range of features of a layer over several runs."""
    return tallies.merge([tallies.load(run.layer_file(index), features) for run in runs], rules)


def sum_up(runs: Sequence[TallyRun]) -> dict[str, float]:
    """Return the sums of several runs."""
    parts = [run.sums() for run in runs]
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged ({one_line(error)}): remove {path.parent}") from error
    return values
