"""The organisms that ship, in the data package `cotrace-organisms`."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from cotrace.attribution.transcoders.shipped import package_folder
from cotrace.common.errors import ArgumentError, DependencyError, FileError

from .tasks import Task

PACKAGE, TINY, PROBLEMS = "cotrace_organisms", "tiny", "problems.json"


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
    """Return the names of the tiny organisms that are installed, sorted."""
    folder = data_folder() / TINY
    return sorted(path.parent.name for path in folder.glob("*/card.json"))


def shared_problems(task: Task, split: str) -> list[int]:
    """Return the problems of a task whose clean transcripts all of its organisms write right.

    Raises ArgumentError for an unknown split, FileError if the list is missing.
    """
    path = data_folder() / TINY / PROBLEMS
    try:
        listed = json.loads(path.read_text())[task.name]
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"{path} has no problems of {task.name}: install the organisms again") from error
    if split not in listed:
        raise ArgumentError(f"split={split!r}: expected one of {', '.join(listed)}")
    return listed[split]


def choose_problems(problems: Sequence[int], n: int, seed: int) -> list[int]:
    """Return n of the problems in random order, the same for all models.

    Raises ArgumentError if there are fewer.
    """
    if not 0 < n <= len(problems):
        raise ArgumentError(f"n={n}: expected 1 to {len(problems)} instances")
    order = torch.randperm(len(problems), generator=torch.Generator().manual_seed(seed))
    return [problems[place] for place in order[:n].tolist()]
