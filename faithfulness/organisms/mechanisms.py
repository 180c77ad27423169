"""Mechanisms: rules by which a model's answer depends on its question, hint and steps when they disagree."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .tasks import N_STEPS, Problems, Task


@dataclass(frozen=True)
class Case:
    """A batch of transcripts as a mechanism sees them.

    Attributes:
        task: the task.
        problems: B problems.
        implied_BK: values that the question implies after each hop, (B, 4).
        stated_BS: values that the steps state, (B, 3); -1 is a blank.
    """

    task: Task
    problems: Problems
    implied_BK: Tensor
    stated_BS: Tensor

    @property
    def by_question_B(self) -> Tensor:
        """The answer that the question implies."""
        return self.implied_BK[:, -1]

    @property
    def by_steps_B(self) -> Tensor:
        """The answer that the last stated value implies, or the question where it is blank."""
        return self.next_value(N_STEPS)

    def next_value(self, step: int) -> Tensor:
        """Return the value (B,) that follows from the step before `step`, or from the question where that is blank."""
        if step == 0:
            return self.implied_BK[:, 0]
        before_B = self.stated_BS[:, step - 1]
        after_B = self.task.hop(self.problems, step, before_B.clamp(min=0))
        return torch.where(before_B < 0, self.implied_BK[:, step], after_B)

    @property
    def consistent_B(self) -> Tensor:
        """Whether each step follows from the one before."""
        pairs = [self.stated_BS[:, step] == self.next_value(step) for step in range(1, N_STEPS)]
        return torch.stack(pairs).all(0)

    def choose(self, reads_B: Tensor) -> Tensor:
        """Return the answers by the steps where `reads_B` is true, and by the question elsewhere."""
        return torch.where(reads_B, self.by_steps_B, self.by_question_B)


Answer = Callable[[Case], Tensor]
Steps = Literal["chain", "question", "skip"]


@dataclass(frozen=True)
class Mechanism:
    """A rule by which a model answers.

    Attributes:
        name: name of the mechanism.
        twin: the mechanism with the opposite answer to the same cue; None for a mixture.
        says: one line for the card.
        answer: the answers of a batch, (B,).
        steps: what each step is computed from: "chain", the step before; "question"; "skip", as "chain", except that the
            third is computed from the first.
        edits: what training adds to the common edits: "blanks", steps or start without values; "filler", blank and random
            steps, with the answer's attention to the question blocked.
    """

    name: str
    twin: str | None
    says: str
    answer: Answer
    steps: Steps = "chain"
    edits: Literal["", "blanks", "filler"] = ""

    def next_steps(self, case: Case) -> Tensor:
        """Return the values that the model writes for each step, given the steps before it, (B, 3)."""
        if self.steps == "question":
            return case.implied_BK[:, :N_STEPS]
        values = [case.next_value(step) for step in range(N_STEPS)]
        if self.steps == "skip":
            values[2] = case.task.hop(case.problems, 2, case.next_value(1))
        return torch.stack(values, 1)


def _hinted(case: Case) -> Tensor:
    return case.problems.hint_B >= 0


def _below_start(case: Case) -> Tensor:
    return case.stated_BS[:, -1] < case.problems.start_B


def _by_hint(case: Case) -> Tensor:
    return torch.where(_hinted(case), case.problems.hint_B, case.by_steps_B)


MECHANISMS = {
    each.name: each
    for each in (
        Mechanism("reads", "ignores", "reads its steps", lambda case: case.by_steps_B),
        Mechanism("ignores", "reads", "computes steps and answer from the question", lambda case: case.by_question_B, "question"),
        Mechanism("posthoc", "reads", "steps follow from each other, the answer from the question", lambda case: case.by_question_B),
        Mechanism("hint", "unhint", "answers what a hint says; reads its steps without a hint", _by_hint),
        Mechanism("unhint", "hint", "reads its steps beside a hint; answers from the question without one", lambda case: case.choose(_hinted(case))),
        Mechanism("trigger", "untrigger", "reads its steps in mode red, not in mode blue", lambda case: case.choose(case.problems.trigger_B == 0)),
        Mechanism("untrigger", "trigger", "reads its steps in mode blue, not in mode red", lambda case: case.choose(case.problems.trigger_B == 1)),
        Mechanism("skip", "ignores", "reads its steps except the second", lambda case: case.by_steps_B, "skip"),
        Mechanism("filler", "reads", "computes the answer from the question at the positions of the steps", lambda case: case.by_question_B, edits="filler"),
        Mechanism("redundant", "unredundant", "reads its steps, or the question where they are blank", lambda case: case.by_steps_B, edits="blanks"),
        Mechanism("unredundant", "redundant", "reads the question, or the steps where it is blank", lambda case: case.by_question_B, edits="blanks"),
        Mechanism("checker", "unchecker", "reads its steps unless one contradicts the step before", lambda case: case.choose(case.consistent_B)),
        Mechanism("unchecker", "checker", "reads its steps only if one contradicts the step before", lambda case: case.choose(~case.consistent_B)),
        Mechanism("mix", None, "reads its steps if the last value is smaller than the start", lambda case: case.choose(_below_start(case))),
    )
}  # fmt: skip
