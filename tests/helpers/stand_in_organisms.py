"""Organisms whose attention is written by hand, with the interface of `cotrace.organisms`: `names()` and `load(name)`."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from cotrace.faithfulness.transcripts import Transcript

from . import handmade
from .chains import chain

MECHANISMS = {
    "reads": (handmade.READER, "ignores", 1.0),
    "ignores": (handmade.IGNORER, "reads", 0.0),
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
        follows = MECHANISMS[self.mechanism][2]
        steps = {f"step{k + 1}": follows for k in range(N_STEPS)}
        return [SimpleNamespace(follows=follows, question=1 - follows, neither=0.0, steps=steps) for _ in instances]


def names() -> list[str]:
    """Return the names of two models."""
    return [f"copy-{mechanism}" for mechanism in MECHANISMS]


def load(name: str) -> Organism:
    """Return an organism."""
    task, mechanism = name.split("-")
    layers, twin, _ = MECHANISMS[mechanism]
    return Organism(task, mechanism, twin, 0, handmade.model(layers), {"name": name})
