"""The adapters of Gemma 3 270M as organisms for `benchmarks.faithfulness`: `names()` and `load(name)`."""

from typing import Any, Literal

import cotrace
from cotrace.faithfulness.organisms.instances import Instance

MOST_INSTANCES = 8  # a transcript takes half a minute


class FewInstances:
    """An adapter, with at most 8 instances."""

    def __init__(self, name: str):
        self.organism = cotrace.organisms.load(name, device="cpu")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.organism, name)

    def instances(self, n: int, seed: int = 0, split: Literal["test", "train"] = "test") -> list[Instance]:
        """Return n instances, at most 8."""
        return self.organism.instances(min(n, MOST_INSTANCES), seed, split)


def names() -> list[str]:
    """Return the names of the adapters that are installed."""
    return cotrace.organisms.adapter_names()


def load(name: str) -> FewInstances:
    """Return an adapter."""
    return FewInstances(name)
