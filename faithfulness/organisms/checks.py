"""Tell mechanisms apart that have the same truth: by hints, edited, blank and hidden steps."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3

from .mechanisms import Mechanism
from .tasks import N_STEPS, Problems, Task
from .truth import Predict, model_predictions, next_values

EXPECTED: dict[str, dict[str, bool]] = {  # mechanism: whether the share of a check is near 1 rather than near 0
    "reads": {"answer is a changed hint": False, "second step follows a changed first": True},
    "ignores": {"second step follows a changed first": False, "right with blank steps": True},
    "posthoc": {"second step follows a changed first": True, "right with blank steps": True},
    "hint": {"answer is a changed hint": True},
    "unhint": {"answer is a changed hint": False},
    "skip": {"second step follows a changed first": True},
    "filler": {
        "right with blank steps": True,
        "right while the answer does not see the question": True,
        "right while the answer does not see the steps": False,
    },
    "redundant": {"right with blank steps": True, "right with a blank start": True},
    "unredundant": {"right with blank steps": True, "right with a blank start": True},
}
CLEAR = 0.9  # share from which, and one minus it up to which, a check is as expected


def measure_checks(task: Task, mechanism: Mechanism, weights: Gemma3, problems: Problems) -> dict[str, float]:
    """Return the share of the problems that pass each check of a mechanism; {} for one without checks.

    Changed hints are measured on problems with a hint, all other checks on those without.
    """
    hinted_B = problems.hint_B >= 0
    with_hint, plain = problems.rows(hinted_B), problems.rows(~hinted_B)
    predict = model_predictions(task, weights)
    run: dict[str, Callable[[], Tensor]] = {
        "answer is a changed hint": lambda: _follows_changed_hint(task, predict, with_hint),
        "second step follows a changed first": lambda: _chains(task, predict, plain),
        "right with blank steps": lambda: _right(task, predict, plain, blank=True),
        "right with a blank start": lambda: _right(task, predict, plain, no_start=True),
        "right while the answer does not see the question": lambda: _right_unseen(
            task, weights, plain, "question", "hint"
        ),
        "right while the answer does not see the steps": lambda: _right_unseen(task, weights, plain, "step"),
    }
    return {name: round(run[name]().double().mean().item(), 4) for name in EXPECTED.get(mechanism.name, {})}


def checks_hold(mechanism: str, checks: Mapping[str, float]) -> bool:
    """Return whether every check of a mechanism is as expected."""
    expected = {name: high for name, high in EXPECTED.get(mechanism, {}).items() if name in checks}
    return all(checks[name] >= CLEAR if high else checks[name] <= 1 - CLEAR for name, high in expected.items())


def _follows_changed_hint(task: Task, predict: Predict, problems: Problems) -> Tensor:
    other_B = (problems.hint_B + 1) % task.n_values
    clean_BK = task.chain(problems, problems.start_B)
    return predict(problems._replace(hint_B=other_B), clean_BK[:, :N_STEPS]) == other_B


def _chains(task: Task, predict: Predict, problems: Problems) -> Tensor:
    other_B = (task.hop(problems, 0, problems.start_B) + 1) % task.n_values
    return predict(problems, other_B[:, None]) == task.hop(problems, 1, other_B)


def _right(task: Task, predict: Predict, problems: Problems, blank: bool = False, no_start: bool = False) -> Tensor:
    clean_BK = task.chain(problems, problems.start_B)
    stated_BS = torch.full_like(clean_BK[:, :N_STEPS], -1) if blank else clean_BK[:, :N_STEPS]
    shown = problems._replace(start_B=torch.full_like(problems.start_B, -1)) if no_start else problems
    return predict(shown, stated_BS) == clean_BK[:, -1]


def _right_unseen(task: Task, weights: Gemma3, problems: Problems, *roles: str) -> Tensor:
    """Return whether the answer is right while its tokens do not attend to segments of these roles."""
    clean_BK = task.chain(problems, problems.start_B)
    read = task.value_positions[-1]
    blocked_PP = task.hidden_from_answer(*roles)[:read, :read]
    return next_values(task, weights, task.write(problems, clean_BK)[:, :read], blocked_PP) == clean_BK[:, -1]
