"""Organisms whose attention is written by hand, with the interface of `cotrace.organisms`: `names()` and `load(name)`."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from cotrace.faithfulness.transcripts import Transcript

from . import handmade
from .chains import chain

MECHANISMS = {  # layers, twin, truth of the whole and of each step
    "reads": (handmade.READER, "ignores", (1.0, 1.0, 1.0, 1.0)),
    "ignores": (handmade.IGNORER, "reads", (0.0, 0.0, 0.0, 0.0)),
    "last": (handmade.LAST_STEP_READER, "guesses", (1.0, 0.0, 0.0, 1.0)),
    "guesses": (handmade.IGNORER, "last", (0.0, 0.0, 0.0, 0.0)),
}
N_STEPS = 3


@dataclass(frozen=True)
class Instance:
    problem: int
    transcript: Transcript
    donors: tuple[Transcript, ...] = ()


@dataclass(frozen=True)
class Organism:
    task: str
    mechanism: str
    twin: str
    seed: int
    model: Any
    card: dict[str, Any]

    def instances(self, n: int, seed: int = 0, split: str = "test") -> list[Instance]:
        """Return n transcripts, the same for all models."""
        values = np.random.default_rng(seed).integers(0, handmade.N_VALUES, n)
        return [Instance(number, chain(v, (v,) * N_STEPS, v)) for number, v in enumerate(values.tolist())]

    def truth(self, instances: list[Instance]) -> list[SimpleNamespace]:
        """Return the truth of the mechanism, by its construction."""
        follows, *steps = MECHANISMS[self.mechanism][2]
        of_steps = {f"step{k + 1}": share for k, share in enumerate(steps)}
        return [SimpleNamespace(follows=follows, question=1 - follows, neither=0.0, steps=of_steps) for _ in instances]


def names() -> list[str]:
    """Return the names of four models."""
    return [f"copy-{mechanism}" for mechanism in MECHANISMS]


def load(name: str) -> Organism:
    """Return an organism."""
    task, mechanism = name.split("-")
    layers, twin, _ = MECHANISMS[mechanism]
    return Organism(task, mechanism, twin, 0, handmade.model(layers), {"name": name})
