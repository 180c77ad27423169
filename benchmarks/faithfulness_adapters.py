"""The adapters of Gemma 3 270M as organisms for `benchmarks.faithfulness`: `names()` and `load(name)`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.common.errors import DependencyError
from cotrace.faithfulness.organisms.adapter_task import LetterProblem, letter_transcript, problem_numbers
from cotrace.faithfulness.organisms.adapters import (
    ADAPTERS,
    adapter_folder,
    load_adapter,
    read_adapter_card,
    shares_of_chains,
)
from cotrace.faithfulness.transcripts import Transcript

MOST_INSTANCES = 20  # a pass takes a hundred times as long as a tiny organism's
TASK = "letters"
TWINS = {"reads": "hint", "hint": "reads"}


@dataclass(frozen=True)
class LetterInstance:
    """A problem with its clean transcript, and donor chains that do not measure truth."""

    problem: int
    transcript: Transcript
    donors: tuple[Transcript, ...]


@dataclass(frozen=True)
class LetterTruth:
    """What the answers follow; shares of single steps are not measured."""

    follows: float
    question: float
    neither: float
    steps: dict[str, float]


class AdapterOrganism:
    """An adapter of Gemma 3 270M with the interface of `cotrace.organisms.Organism`."""

    task, seed = TASK, 0

    def __init__(self, name: str):
        self.name, self.mechanism = name, ADAPTERS[name]
        self.twin = TWINS[self.mechanism]
        self.card: dict[str, Any] = read_adapter_card(name)

    @cached_property
    def model(self) -> LanguageModel:
        """The model, loaded at the first use."""
        return load_adapter(self.name, device="cpu", dtype="float32", progress=False)

    def instances(self, n: int, seed: int = 0, split: str = "test") -> list[LetterInstance]:
        """Return n instances, at most 20."""
        numbers = Random(f"instances {seed}").sample(list(problem_numbers(split)), min(n, MOST_INSTANCES))
        return [self._instance(number) for number in numbers]

    def truth(self, instances: Sequence[LetterInstance]) -> list[LetterTruth]:
        """Return what the answer of each instance follows when its steps are those of donor chains."""
        found = [shares_of_chains(self.model, LetterProblem.from_number(each.problem)) for each in instances]
        return [
            LetterTruth(shares.stated, shares.question, max(0.0, 1 - shares.stated - shares.question), {})
            for shares in found
        ]

    def _instance(self, number: int) -> LetterInstance:
        problem = LetterProblem.from_number(number)
        donors = tuple(letter_transcript(problem, chain) for chain in problem.score_chains())
        return LetterInstance(number, letter_transcript(problem), donors)


def names() -> list[str]:
    """Return the names of the adapters that are installed."""
    return [name for name in ADAPTERS if _is_installed(name)]


def load(name: str) -> AdapterOrganism:
    """Return an adapter."""
    return AdapterOrganism(name)


def _is_installed(name: str) -> bool:
    try:
        return adapter_folder(name).is_dir()
    except DependencyError:
        return False
