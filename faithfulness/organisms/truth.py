"""Measure what the answer of a model depends on, by donors: chains from another start in place of the stated steps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.faithfulness.clear import CLEAR_HIGH, CLEAR_LOW

from .mechanisms import Case, Mechanism
from .tasks import N_HOPS, N_STEPS, Problems, Task

N_DONORS = 16  # for truth; the other starts are left for scores
BATCH_ROWS = 512

Predict = Callable[[Problems, Tensor], Tensor]
"""Returns the next stated value (B,) after the given ones (B, k); -1 where the model writes another word."""


@dataclass(frozen=True)
class Truth:
    """Shares of what the answer to one problem follows when its steps state other values.

    Attributes:
        follows: share of the donors whose answer is the one that the stated values imply.
        question: share of the donors whose answer is the one that the question implies.
        neither: share of the others.
        steps: for each step, the share of the values that, stated there, decide the answer: the steps before are kept, the
            model rewrites the later ones and answers what follows from the value.
    """

    follows: float
    question: float
    neither: float
    steps: dict[str, float]

    @property
    def is_clear(self) -> bool:
        """Whether nearly all donors agree."""
        return self.follows <= CLEAR_LOW or self.follows >= CLEAR_HIGH


def measure_truth(task: Task, predict: Predict, problems: Problems, donor_BN: Tensor) -> list[Truth]:
    """Return the truth of each of B problems. `donor_BN` has the values at which its donor chains start."""
    n_problems, n_donors = donor_BN.shape
    rows = torch.arange(n_problems).repeat_interleave(n_donors)
    repeated, donor_R = problems.rows(rows), donor_BN.flatten()
    implied_RK, donor_RK = task.chain(repeated, repeated.start_B), task.chain(repeated, donor_R)
    answer_R = predict(repeated, donor_RK[:, :N_STEPS])

    def shares(right_R: Tensor) -> list[float]:
        return right_R.view(n_problems, n_donors).double().mean(1).tolist()

    follows, question = shares(answer_R == donor_RK[:, -1]), shares(answer_R == implied_RK[:, -1])
    steps = [
        shares(_answer_after(task, predict, repeated, implied_RK, donor_RK, k) == donor_RK[:, -1])
        for k in range(N_STEPS)
    ]
    return [
        Truth(f, q, max(0.0, 1 - f - q), {f"step{k + 1}": steps[k][row] for k in range(N_STEPS)})
        for row, (f, q) in enumerate(zip(follows, question, strict=True))
    ]


def measure_mirrors(task: Task, predict: Predict, problems: Problems, donor_BN: Tensor) -> list[dict[str, float]]:
    """Return, for each of B problems and each step, how often its value is computed inside, whatever is stated before.

    The question starts at a donor's value, and the text before the step stays. The share is that of the donors with which
    the model writes the value that the new question implies. `donor_BN` is as in `measure_truth`.
    """
    n_problems, n_donors = donor_BN.shape
    rows = torch.arange(n_problems).repeat_interleave(n_donors)
    stated, donor_R = problems.rows(rows), donor_BN.flatten()
    asked = stated._replace(start_B=donor_R)
    stated_RK, implied_RK = task.chain(stated, stated.start_B), task.chain(asked, donor_R)
    shares_SB = [
        (predict(asked, stated_RK[:, :k]) == implied_RK[:, k]).view(n_problems, n_donors).double().mean(1).tolist()
        for k in range(N_STEPS)
    ]
    return [{f"step{k + 1}": shares_SB[k][row] for k in range(N_STEPS)} for row in range(n_problems)]


def _answer_after(
    task: Task, predict: Predict, problems: Problems, clean_RK: Tensor, donor_RK: Tensor, step: int
) -> Tensor:
    """Return the answers after one step states the donor's value and the model rewrites the later steps."""
    stated_RS = torch.cat([clean_RK[:, :step], donor_RK[:, step : step + 1]], 1)
    while stated_RS.shape[1] < N_STEPS:
        stated_RS = torch.cat([stated_RS, predict(problems, stated_RS)[:, None]], 1)
    return predict(problems, stated_RS)


def rule_of(task: Task, mechanism: Mechanism) -> Predict:
    """Return the predictions of a mechanism itself: what a model that follows its recipe exactly would write."""

    def predict(problems: Problems, stated_BS: Tensor) -> Tensor:
        given = stated_BS.shape[1]
        padded_BS = torch.cat([stated_BS, stated_BS.new_zeros(len(stated_BS), N_STEPS - given)], 1)
        case = Case(task, problems, task.chain(problems, problems.start_B), padded_BS)
        return mechanism.answer(case) if given == N_STEPS else mechanism.next_steps(case)[:, given]

    return predict


def model_predictions(task: Task, weights: Gemma3) -> Predict:
    """Return the greedy predictions of a model."""

    def predict(problems: Problems, stated_BS: Tensor) -> Tensor:
        given = stated_BS.shape[1]
        padded_BK = torch.cat([stated_BS, stated_BS.new_zeros(len(stated_BS), N_HOPS - given)], 1)
        ids_BP = task.write(problems, padded_BK)[:, : task.value_positions[given]]
        return next_values(task, weights, ids_BP)

    return predict


@torch.no_grad()
def next_values(task: Task, weights: Gemma3, ids_BP: Tensor, blocked_PP: Tensor | None = None) -> Tensor:
    """Return the value (B,) that a model predicts after each row; -1 where it predicts another word.

    `blocked_PP` is True where a query must not attend to a key.
    """
    blocked_PP = None if blocked_PP is None else blocked_PP.to(weights.device)
    tokens = []
    for part_BP in ids_BP.to(weights.device).split(BATCH_ROWS):
        forward_pass = ForwardPass(weights, weights.embed(part_BP), keep_patterns=False, blocked=blocked_PP)
        tokens.append(weights.logits(forward_pass.run()[:, -1]).argmax(-1).cpu())
    value_B = torch.cat(tokens) - task.first_value
    return torch.where((value_B >= 0) & (value_B < task.n_values), value_B, -1)


def writes_clean(task: Task, predict: Predict, problems: Problems) -> Tensor:
    """Return whether a model writes every value of the clean transcript of each problem, (B,)."""
    clean_BK = task.chain(problems, problems.start_B)
    right = [predict(problems, clean_BK[:, :given]) == clean_BK[:, given] for given in range(N_HOPS)]
    return torch.stack(right).all(0)
