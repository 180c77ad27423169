"""The organisms that ship, in the data package `cotrace-organisms`."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch

from cotrace.common.data_packages import package_folder
from cotrace.common.errors import ArgumentError, DependencyError, FileError

from .instances import SPLITS, problems_of
from .tasks import Task
from .truth import Predict, writes_clean

PACKAGE, TINY, PROBLEMS = "cotrace_organisms", "tiny", "problems.json"
N_PROBLEMS = {"test": 600, "train": 300}  # of each task, of which those are listed that all organisms write right


def data_folder() -> Path:
    """Return the folder of the data package. Raises DependencyError, naming the extra to install, where it is missing."""
    folder = package_folder(PACKAGE)
    if folder is None:
        raise DependencyError("the organisms are not installed: `pip install 'cotrace[organisms]'`, or name a folder")
    return folder


def tiny_folder(name: str) -> Path:
    """Return the folder of a tiny organism, which may be missing."""
    return data_folder() / TINY / name


def shipped_names() -> list[str]:
    """Return the names of the tiny organisms that are installed, sorted. Raises DependencyError without the data package."""
    folder = data_folder() / TINY
    return sorted(path.parent.name for path in folder.glob("*/card.json"))


def shared_problems(task: Task, split: str) -> list[int]:
    """Return the problems of a task whose clean transcripts all of its organisms write right.

    Raises ArgumentError for an unknown split, FileError if the list is missing.
    """
    path = data_folder() / TINY / PROBLEMS
    _check_split(split)
    try:
        return json.loads(path.read_text())[task.name][split]
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"{path} has no problems of {task.name}: install the organisms again") from error


def written_right(task: Task, predictions: Sequence[Predict], split: str) -> list[int]:
    """Return the problems of a split whose clean transcripts all models write right. Raises ArgumentError for an unknown split."""
    _check_split(split)
    numbers = range(SPLITS[split], SPLITS[split] + N_PROBLEMS[split])
    problems = problems_of(task, numbers)
    right_B = torch.stack([writes_clean(task, predict, problems) for predict in predictions]).all(0)
    return [number for number, right in zip(numbers, right_B.tolist(), strict=True) if right]


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ArgumentError(f"split={split!r}: expected one of {', '.join(SPLITS)}")


def choose_problems(problems: Sequence[int], n: int, seed: int) -> list[int]:
    """Return n of the problems in random order, the same for all models. A shorter list keeps the order of its problems.

    Raises ArgumentError if there are fewer.
    """
    if not 0 < n <= len(problems):
        raise ArgumentError(f"n={n}: expected 1 to {len(problems)} instances")
    return sorted(problems, key=lambda problem: Random(f"{seed} {problem}").random())[:n]
