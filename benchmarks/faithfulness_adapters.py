"""The adapters of Gemma 3 270M as organisms for `benchmarks.faithfulness`: `names()` and `load(name)`."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.common.errors import DependencyError
from cotrace.faithfulness.organisms.adapter_task import LETTER_TASK
from cotrace.faithfulness.organisms.adapters import (
    ADAPTERS,
    adapter_folder,
    adapter_truth,
    load_adapter,
    shared_letter_problems,
)
from cotrace.faithfulness.organisms.instances import Instance
from cotrace.faithfulness.organisms.shipped import choose_problems
from cotrace.faithfulness.organisms.truth import Truth

MOST_INSTANCES = 20  # a pass takes a hundred times as long as a tiny organism's


class AdapterOrganism:
    """An adapter with the interface of `cotrace.organisms.Organism`."""

    def __init__(self, name: str):
        recipe = ADAPTERS[name]
        self.name, self.task, self.seed = name, recipe.task.name, recipe.seed
        self.mechanism, self.twin = recipe.mechanism.name, recipe.mechanism.twin
        self.card: dict[str, Any] = json.loads((adapter_folder(name) / "card.json").read_text())

    @cached_property
    def model(self) -> LanguageModel:
        """The model, loaded at the first use."""
        return load_adapter(self.name, device="cpu", dtype="float32", progress=False)

    def instances(self, n: int, seed: int = 0, split: str = "test") -> list[Instance]:
        """Return n instances, at most 20."""
        return LETTER_TASK.instances(choose_problems(shared_letter_problems(split), min(n, MOST_INSTANCES), seed))

    def truth(self, instances: Sequence[Instance]) -> list[Truth]:
        """Return what the answer of each instance follows when its steps state other values."""
        return adapter_truth(self.model, [instance.problem for instance in instances])


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
