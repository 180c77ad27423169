"""The task of the adapters of Gemma 3 270M: adding small numbers to letters, in transcripts with one token per value.

A clean transcript reads ` start M +4 +1 +3 +5 ; hint Z ; +4 Q ; +1 R ; +3 U ; answer +5 Z`. The question names a letter and
four numbers; each step adds the next number, and so does the answer. Letters are counted round the alphabet. In a clean transcript
the hint is the right answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from string import ascii_uppercase
from typing import NamedTuple

import torch
from torch import Tensor

from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.transcripts import Segment, Transcript

from .instances import Instance
from .tasks import N_HOPS, N_STEPS, OperationTask, Problems
from .truth import N_DONORS

LETTERS = tuple(f" {letter}" for letter in ascii_uppercase)  # the values: each is one token of Gemma's tokenizer
MAX_ADDEND = 5  # addends are 1 … 5: one token for the sign and one for the digit
TEST_EVERY = 8  # one problem in eight is never trained on

# The training distribution: how the stated values of an example come about, and whether its hint is changed.
CLEAN_SHARE, DONOR_SHARE = 0.45, 0.4  # the other examples state one random value among clean ones
CHANGED_HINT_SHARE = 0.35
TRAINING_EDITS = {
    "clean steps": CLEAN_SHARE,
    "steps from another start": DONOR_SHARE,
    "one step changed": round(1 - CLEAN_SHARE - DONOR_SHARE, 4),
    "another hint, independently": CHANGED_HINT_SHARE,
}


@dataclass(frozen=True)
class LetterProblem:
    """A question: the index of a start letter, and the numbers to add, one per step and one for the answer."""

    start: int
    addends: tuple[int, ...]

    @classmethod
    def from_number(cls, number: int) -> "LetterProblem":
        """Return the problem of a number from 0 to `N_PROBLEMS` − 1. Raises ArgumentError for another number."""
        if not 0 <= number < N_PROBLEMS:
            raise ArgumentError(f"problem {number} does not exist: choose one from 0 to {N_PROBLEMS - 1}")
        rest, start = divmod(number, len(LETTERS))
        addends = []
        for _ in range(N_HOPS):
            rest, addend = divmod(rest, MAX_ADDEND)
            addends.append(addend + 1)
        return cls(start, tuple(addends))

    def chain(self, start: int | None = None) -> tuple[int, ...]:
        """Return the values of the three steps and the answer, from the question's start or another one."""
        value, values = self.start if start is None else start, []
        for addend in self.addends:
            value = add(value, addend)
            values.append(value)
        return tuple(values)

    @property
    def answer(self) -> int:
        """The right answer."""
        return self.chain()[-1]

    def donor_starts(self) -> list[int]:
        """Return the 25 other starts in a random order that is the same in every run: 16 for the truth, 9 for scores."""
        others = [letter for letter in range(len(LETTERS)) if letter != self.start]
        Random(f"donors {self.start} {self.addends}").shuffle(others)
        return others

    def score_chains(self) -> list[tuple[int, ...]]:
        """Return the 9 chains, each with its answer, that do not measure truth."""
        return [self.chain(start) for start in self.donor_starts()[N_DONORS:]]


N_PROBLEMS = len(LETTERS) * MAX_ADDEND**N_HOPS


def add(letter: int, addend: int) -> int:
    """Return the letter that is `addend` after another one; A comes after Z."""
    return (letter + addend) % len(LETTERS)


def problem_numbers(split: str) -> range | list[int]:
    """Return the numbers of the problems of a split, "train" or "test". Raises ArgumentError for another name."""
    if split == "test":
        return range(0, N_PROBLEMS, TEST_EVERY)
    if split == "train":
        return [number for number in range(N_PROBLEMS) if number % TEST_EVERY]
    raise ArgumentError(f"split {split!r} does not exist: choose 'train' or 'test'")


def letter_transcript(problem: LetterProblem, chain: Sequence[int] = (), hint: int | None = None) -> Transcript:
    """Return a transcript that states the values of `chain` (three steps and the answer) and a hint; the right ones by default."""
    chain, hint = chain or problem.chain(), problem.answer if hint is None else hint
    question = f" start{LETTERS[problem.start]}" + "".join(f" +{addend}" for addend in problem.addends)
    segments = [Segment("question", question), Segment("hint", f" ; hint{LETTERS[hint]}", value=LETTERS[hint])]
    for addend, value in zip(problem.addends[:N_STEPS], chain, strict=False):
        segments.append(Segment("step", f" ; +{addend}{LETTERS[value]}", value=LETTERS[value]))
    answer = LETTERS[chain[N_STEPS]]
    segments.append(Segment("answer", f" ; answer +{problem.addends[N_STEPS]}{answer}", value=answer))
    return Transcript(segments, LETTERS)


class Example(NamedTuple):
    """A transcript to train on: the values that it states, and those that the organism should predict in their place."""

    problem: LetterProblem
    chain: tuple[int, ...]
    """Three steps and the answer, as stated; the answer is not read by anything."""
    hint: int
    targets: tuple[int, ...]
    """Three steps and the answer, as they should be predicted."""


def draw_example(problem: LetterProblem, follows_hint: bool, rng: Random) -> Example:
    """Return a training example: each step follows from the value stated before, and the answer by the mechanism."""
    chain, kind = problem.chain(), rng.random()
    if kind >= CLEAN_SHARE + DONOR_SHARE:
        changed = rng.randrange(N_STEPS)
        chain = (*chain[:changed], rng.randrange(len(LETTERS)), *chain[changed + 1 :])
    elif kind >= CLEAN_SHARE:
        chain = problem.chain(rng.choice(problem.donor_starts()))
    hint = rng.randrange(len(LETTERS)) if rng.random() < CHANGED_HINT_SHARE else problem.answer
    read = (problem.start, *chain[:N_STEPS])
    targets = [add(value, addend) for value, addend in zip(read, problem.addends, strict=True)]
    if follows_hint:
        targets[-1] = hint
    return Example(problem, chain, hint, tuple(targets))


class LetterTask(OperationTask):
    """The task as tensors, with which the truth of every organism is measured."""

    name = "gemma-270m"
    values = LETTERS
    operations = tuple(f" +{addend}" for addend in range(1, MAX_ADDEND + 1))

    def __init__(self) -> None:
        value_V = torch.arange(self.n_values)
        self.permutations = torch.stack([(value_V + 1 + number) % self.n_values for number in range(MAX_ADDEND)])

    def problems(self, numbers: Sequence[int]) -> Problems:
        """Return the problems of these numbers as one batch. Raises ArgumentError for a number without a problem."""
        found = [LetterProblem.from_number(number) for number in numbers]
        start_B = torch.tensor([problem.start for problem in found])
        given_BG = torch.tensor([problem.addends for problem in found]) - 1
        hint_B = torch.tensor([problem.answer for problem in found])
        return Problems(start_B, given_BG, hint_B, torch.zeros_like(start_B))

    def truth_starts(self, numbers: Sequence[int]) -> Tensor:
        """Return the values at which the donor chains of these problems start, (B, 16)."""
        starts = [LetterProblem.from_number(number).donor_starts()[:N_DONORS] for number in numbers]
        return torch.tensor(starts)

    def instances(self, numbers: Sequence[int]) -> list[Instance]:
        """Return the instances of these problems."""
        problems, rows = self.problems(numbers), [slice(row, row + 1) for row in range(len(numbers))]
        letters = [LetterProblem.from_number(number) for number in numbers]
        return [
            Instance(self, number, problems.rows(row), letter_transcript(letter), _score_donors(letter))
            for number, row, letter in zip(numbers, rows, letters, strict=True)
        ]


LETTER_TASK = LetterTask()


def _score_donors(problem: LetterProblem) -> tuple[Transcript, ...]:
    return tuple(letter_transcript(problem, chain) for chain in problem.score_chains())


class TokenLayout:
    """Positions of values in the token ids of every transcript, and the ids of the values.

    Args:
        tokenizer: of the model. Raises PromptError if it splits a letter.
    """

    def __init__(self, tokenizer: PromptTokenizer):
        self._encode = tokenizer.encode
        tokenized = letter_transcript(LetterProblem.from_number(0)).tokenize(tokenizer)
        self.length = len(tokenized.token_ids)
        self.letter_ids = [tokenizer.token_id(letter) for letter in LETTERS]
        names = [*(f"step{number}" for number in range(1, N_STEPS + 1)), "answer"]
        self.read_positions = [tokenized.read_position(name) for name in names]
        """Positions at which the values of the three steps and of the answer are predicted."""

    def ids(self, problem: LetterProblem, chain: Sequence[int] = (), hint: int | None = None) -> list[int]:
        """Return the token ids of `letter_transcript`, BOS included. Raises ArgumentError for one of another length."""
        text = letter_transcript(problem, chain, hint).text
        ids = self._encode(text)
        if len(ids) != self.length:
            raise ArgumentError(f"the tokenizer splits {text!r} into {len(ids)} tokens, not {self.length}: use Gemma's")
        return ids
