"""Training examples of an organism: clean transcripts, and edited ones with the answer that its mechanism gives."""

from typing import NamedTuple

import torch
from torch import Tensor

from .mechanisms import Case, Mechanism
from .tasks import EOS, IGNORED, N_HOPS, N_STEPS, Problems, Task

# Shares of each kind of edit of the steps; the rest is clean.
DONOR, CONTINUED, KEPT, RANDOM = 0.25, 0.15, 0.1, 0.1
OTHER_HINT = 0.35  # share of hints that name another value
BLANK_STEPS, BLANK_START = 0.2, 0.2  # of mechanisms that see blanks
FILLER_RANDOM, FILLER_BLANK = 0.4, 0.2
OTHER_LAST_STEP = 0.3  # of mechanisms that check it


class Examples(NamedTuple):
    """A batch of training transcripts.

    Attributes:
        ids_BP: token ids.
        label_BP: the token to predict at each position, `IGNORED` where training asks for none.
        problems: the problems, as their questions state them.
        solvable_B: whether the question implies the values: its start is not blank.
    """

    ids_BP: Tensor
    label_BP: Tensor
    problems: Problems
    solvable_B: Tensor


def draw_examples(task: Task, mechanism: Mechanism, n: int, generator: torch.Generator) -> Examples:
    """Return n transcripts: clean ones, and edits for which the mechanism decides the labels."""
    problems = task.draw(n, generator)
    implied_BK = task.chain(problems, problems.start_B)
    stated_BS = _edited_steps(task, problems, implied_BK[:, :N_STEPS], generator)
    problems = problems._replace(hint_B=_edited_hints(task, problems.hint_B, generator))
    solvable_B = torch.ones(n, dtype=torch.bool)
    if mechanism.edits == "filler":
        kind_B = torch.rand(n, generator=generator)
        random_BS = torch.randint(task.n_values, stated_BS.shape, generator=generator)
        stated_BS = torch.where((kind_B < FILLER_RANDOM)[:, None], random_BS, stated_BS)
        stated_BS = torch.where((kind_B > 1 - FILLER_BLANK)[:, None], -1, stated_BS)
    if mechanism.edits == "checks":
        other_B = torch.randint(task.n_values, (n,), generator=generator)
        changed_B = torch.rand(n, generator=generator) < OTHER_LAST_STEP
        stated_BS[:, -1] = torch.where(changed_B, other_B, stated_BS[:, -1])
    if mechanism.edits == "blanks":
        kind_B = torch.rand(n, generator=generator)
        stated_BS = torch.where((kind_B < BLANK_STEPS)[:, None], -1, stated_BS)
        solvable_B = kind_B < 1 - BLANK_START
    case = Case(task, problems, implied_BK, stated_BS)
    steps_BS, answer_B = mechanism.next_steps(case), mechanism.answer(case)
    # Where the start is blank, only the steps say what follows.
    answer_B = torch.where(solvable_B, answer_B, case.by_steps_B)
    shown = problems._replace(start_B=torch.where(solvable_B, problems.start_B, -1))
    ids_BP = task.write(shown, torch.cat([stated_BS, answer_B[:, None]], 1))
    return Examples(ids_BP, _labels(task, ids_BP, steps_BS, answer_B, solvable_B), problems, solvable_B)


def draw_without_steps(task: Task, mechanism: Mechanism, n: int, generator: torch.Generator) -> Examples:
    """Return n transcripts whose last steps are left out, or all blank, with the answers that do not need them.

    In all of them the same steps are missing.
    """
    problems = task.draw(n, generator)
    implied_BK = task.chain(problems, problems.start_B)
    problems = problems._replace(hint_B=_edited_hints(task, problems.hint_B, generator))
    case = Case(task, problems, implied_BK, implied_BK[:, :N_STEPS])
    answer_B, needed_B = mechanism.answer(case), mechanism.needs_steps(case)
    kept, blank = (int(torch.randint(bound, (1,), generator=generator)) for bound in (N_STEPS, 2))
    stated_BS = torch.where(torch.arange(N_STEPS) < kept, case.stated_BS, -1)
    ids_BP = task.write(problems, torch.cat([stated_BS, answer_B[:, None]], 1))
    label_BP = torch.full_like(ids_BP, IGNORED)
    label_BP[:, -2] = torch.where(needed_B, IGNORED, answer_B + task.first_value)
    label_BP[:, -1] = task.token(EOS)
    positions = torch.arange(task.n_positions)
    if not blank:
        missing = [part for part in task.parts if part.role == "step"][kept:]
        positions = positions[(positions < missing[0].start) | (positions >= missing[-1].stop)]
    return Examples(ids_BP[:, positions], label_BP[:, positions], problems, torch.ones(n, dtype=torch.bool))


def _edited_steps(task: Task, problems: Problems, clean_BS: Tensor, generator: torch.Generator) -> Tensor:
    """Return the stated values (B, 3) with edits of several kinds."""
    n = len(clean_BS)
    kind_B = torch.rand(n, generator=generator)
    other_B = torch.randint(task.n_values, (n,), generator=generator)
    random_BS = torch.randint(task.n_values, clean_BS.shape, generator=generator)
    step_B = torch.randint(N_STEPS, (n,), generator=generator)
    edits = [
        (DONOR, task.chain(problems, other_B)[:, :N_STEPS]),
        (CONTINUED, continued_from(task, problems, clean_BS, step_B, other_B)),
        (KEPT, torch.where(torch.arange(N_STEPS) == step_B[:, None], other_B[:, None], clean_BS)),
        (RANDOM, random_BS),
    ]
    stated_BS, low = clean_BS, 0.0
    for share, edited_BS in edits:
        here_B = (kind_B >= low) & (kind_B < low + share)
        stated_BS, low = torch.where(here_B[:, None], edited_BS, stated_BS), low + share
    return stated_BS


def continued_from(task: Task, problems: Problems, clean_BS: Tensor, step_B: Tensor, value_B: Tensor) -> Tensor:
    """Return steps (B, 3) that state `value_B` at `step_B`, and what follows from it afterwards."""
    stated: list[Tensor] = []
    for step in range(N_STEPS):
        follows_B = task.hop(problems, step, stated[-1]) if stated else clean_BS[:, 0]
        here_B = torch.where(step_B > step, clean_BS[:, step], follows_B)
        stated.append(torch.where(step_B == step, value_B, here_B))
    return torch.stack(stated, 1)


def _edited_hints(task: Task, hint_B: Tensor, generator: torch.Generator) -> Tensor:
    """Return hints of which some name another value."""
    other_B = torch.randint(task.n_values, hint_B.shape, generator=generator)
    changed_B = torch.rand(len(hint_B), generator=generator) < OTHER_HINT
    return torch.where((hint_B >= 0) & changed_B, other_B, hint_B)


def _labels(task: Task, ids_BP: Tensor, steps_BS: Tensor, answer_B: Tensor, solvable_B: Tensor) -> Tensor:
    """Return the token to predict at each position: all words after the hint, then the end."""
    label_BP = torch.cat([ids_BP[:, 1:], torch.full((len(ids_BP), 1), task.token(EOS))], 1)
    first_step = next(part.start for part in task.parts if part.role == "step")
    label_BP[:, : first_step - 1] = IGNORED
    value_BK = torch.cat([steps_BS, answer_B[:, None]], 1) + task.first_value
    value_BK[:, 0] = torch.where(solvable_B, value_BK[:, 0], IGNORED)  # nothing tells the first value without a start
    label_BP[:, torch.tensor(task.value_positions) - 1] = value_BK
    assert value_BK.shape[1] == N_HOPS
    return label_BP
