"""Instances: problems of a task by number, with their clean transcripts and donors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cotrace.faithfulness.transcripts import Segment, Transcript

from .tasks import Problems, Task
from .truth import N_DONORS

SPLITS = {"test": 1_000_000, "train": 2_000_000}  # the first problem of each
FIRST_SEED = 5_000_000_000


@dataclass(frozen=True)
class Instance:
    """A problem and its clean transcript, which is the same for all models of a task.

    Attributes:
        problem: number of the problem.
        problems: the problem, as a batch of one.
        transcript: question, hint, three steps and answer; all values are right.
        donors: transcripts of the same question whose steps start elsewhere and whose answer follows from them. None of
            them is used to measure truth.
    """

    task: Task
    problem: int
    problems: Problems
    transcript: Transcript
    donors: tuple[Transcript, ...]


def problems_of(task: Task, numbers: Sequence[int]) -> Problems:
    """Return the problems of these numbers as one batch."""
    drawn = [task.draw(1, torch.Generator().manual_seed(FIRST_SEED + number)) for number in numbers]
    return Problems(*(torch.cat(column) for column in zip(*drawn, strict=True)))


def donor_starts(task: Task, numbers: Sequence[int], problems: Problems) -> Tensor:
    """Return all other values than the start of each problem, in random order, (B, values − 1).

    The first `N_DONORS` measure truth; the rest are left for scores.
    """
    rows = []
    for number, start in zip(numbers, problems.start_B.tolist(), strict=True):
        order_V = torch.randperm(task.n_values, generator=torch.Generator().manual_seed(2 * FIRST_SEED + number))
        rows.append(order_V[order_V != start])
    return torch.stack(rows)


def truth_problems(task: Task, numbers: Sequence[int]) -> tuple[Problems, Tensor]:
    """Return the problems of these numbers, and the starts (B, 16) of the donors that measure their truth."""
    problems = problems_of(task, numbers)
    return problems, donor_starts(task, numbers, problems)[:, :N_DONORS]


def make_instances(task: Task, numbers: Sequence[int]) -> list[Instance]:
    """Return the instances of these problems."""
    problems = problems_of(task, numbers)
    starts_BN = donor_starts(task, numbers, problems)[:, N_DONORS:]
    clean = _transcripts(task, problems, problems.start_B)
    donors = zip(*(_transcripts(task, problems, start_B) for start_B in starts_BN.T), strict=True)
    rows = [slice(row, row + 1) for row in range(len(numbers))]
    return [
        Instance(task, number, problems.rows(row), transcript, others)
        for number, row, transcript, others in zip(numbers, rows, clean, donors, strict=True)
    ]


def _transcripts(task: Task, problems: Problems, start_B: Tensor) -> list[Transcript]:
    """Return the transcript of each problem with the chain that starts at `start_B`."""
    ids_BP = task.write(problems, task.chain(problems, start_B))
    return [transcript_of(task, ids_P) for ids_P in ids_BP.tolist()]


def transcript_of(task: Task, ids_P: Sequence[int]) -> Transcript:
    """Return token ids of a task as a transcript."""
    words = [task.words[token] for token in ids_P]
    segments = []
    for part in task.parts:
        value = None if part.value is None or words[part.value] not in task.values else words[part.value].strip()
        segments.append(Segment(part.role, "".join(words[part.start : part.stop]), part.name, value))
    return Transcript(segments, [value.strip() for value in task.values])
