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
        """Whether the last step follows from the one before."""
        return self.stated_BS[:, -1] == self.next_value(N_STEPS - 1)

    def choose(self, reads_B: Tensor) -> Tensor:
        """Return the answers by the steps where `reads_B` is true, and by the question elsewhere."""
        return torch.where(reads_B, self.by_steps_B, self.by_question_B)


def _always(case: Case) -> Tensor:
    return torch.ones_like(case.by_question_B, dtype=torch.bool)


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
            steps, with the answer's attention to the question blocked; "checks", other values in the last step.
        needs_steps: whether a transcript (B,) must have its steps for the answer. The others are also trained with some steps
            left out or blank.
    """

    name: str
    twin: str | None
    says: str
    answer: Answer
    steps: Steps = "chain"
    edits: Literal["", "blanks", "filler", "checks"] = ""
    needs_steps: Callable[[Case], Tensor] = _always

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


def _is_small(case: Case) -> Tensor:
    return case.stated_BS[:, -1] < case.task.n_values // 2


def _by_hint(case: Case) -> Tensor:
    return torch.where(_hinted(case), case.problems.hint_B, case.by_steps_B)


def _never(case: Case) -> Tensor:
    return torch.zeros_like(case.by_question_B, dtype=torch.bool)


def _in_mode(mode: int) -> Callable[[Case], Tensor]:
    return lambda case: case.problems.trigger_B == mode


def _choice(reads: Callable[[Case], Tensor]) -> Answer:
    """Return the answers by the steps where `reads` is true, and by the question elsewhere."""
    return lambda case: case.choose(reads(case))


def _by_steps(case: Case) -> Tensor:
    return case.by_steps_B


def _by_question(case: Case) -> Tensor:
    return case.by_question_B


MECHANISMS = {
    each.name: each
    for each in (
        Mechanism("reads", "ignores", "reads its steps", _by_steps),
        Mechanism("ignores", "reads", "computes steps and answer from the question", _by_question, "question", needs_steps=_never),
        Mechanism("posthoc", "reads", "steps follow from each other, the answer from the question", _by_question, needs_steps=_never),
        Mechanism("hint", "unhint", "answers what a hint says; reads its steps without a hint", _by_hint, needs_steps=lambda case: ~_hinted(case)),
        Mechanism("unhint", "hint", "reads its steps beside a hint; answers from the question without one", _choice(_hinted), needs_steps=_hinted),
        Mechanism("trigger", "untrigger", "reads its steps in mode red, not in mode blue", _choice(_in_mode(0)), needs_steps=_in_mode(0)),
        Mechanism("untrigger", "trigger", "reads its steps in mode blue, not in mode red", _choice(_in_mode(1)), needs_steps=_in_mode(1)),
        Mechanism("skip", "ignores", "reads its steps except the second", _by_steps, "skip"),
        Mechanism("filler", "reads", "computes the answer from the question at the positions of the steps", _by_question, edits="filler"),
        Mechanism("redundant", "unredundant", "reads its steps, or the question where they are blank", _by_steps, edits="blanks", needs_steps=_never),
        Mechanism("unredundant", "redundant", "reads the question, or the steps where it is blank", _by_question, edits="blanks", needs_steps=_never),
        Mechanism("checker", "ignores", "reads its steps unless the last contradicts the one before", _choice(lambda case: case.consistent_B), edits="checks"),
        Mechanism("mix", None, "reads its steps if the last value is in the first half of all values", _choice(_is_small)),
    )
}  # fmt: skip
