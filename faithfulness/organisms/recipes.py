"""The organisms that ship: their tasks, mechanisms and seeds, and how each is trained."""

from dataclasses import dataclass

from cotrace.common.errors import ArgumentError

from .fitting import FitConfig
from .mechanisms import MECHANISMS, Mechanism
from .tasks import TASKS, Task

BASE_FIT = FitConfig(2000, 64, 3e-3)
FIT = FitConfig(800, 64, 1.5e-3)


@dataclass(frozen=True)
class Recipe:
    """A tiny organism: a task, a mechanism, a seed, and how long it is trained.

    Attributes:
        task: its task.
        mechanism: its mechanism.
        base_fit: training of the model from which all mechanisms of a task and seed start.
        fit: training of the mechanism.
        seed: seed of weights and examples.
    """

    task: Task
    mechanism: Mechanism
    base_fit: FitConfig = BASE_FIT
    fit: FitConfig = FIT
    seed: int = 0

    @property
    def name(self) -> str:
        """The name, such as `arithmetic-reads`, with the seed if it is not 0."""
        return (
            f"{self.base_name}-{self.mechanism.name}"
            if not self.seed
            else f"{self.task.name}-{self.mechanism.name}-{self.seed}"
        )

    @property
    def base_name(self) -> str:
        """The name of the model from which the training starts, one for each task and seed."""
        return f"{self.task.name}{self._suffix}"

    @property
    def _suffix(self) -> str:
        return f"-{self.seed}" if self.seed else ""


SEEDS = (1, 2)  # besides 0, of the two main mechanisms of the main task
COMMON = ("reads", "ignores", "hint", "unhint", "trigger", "untrigger")
SLOW_FITS = {  # of mechanisms that learn where to compute, or to compare, not only what to read
    "filler": FitConfig(1500, 64, 2e-3),
    "checks": FitConfig(2500, 64, 2e-3),
}
LOOKUP_BASE_FIT, LOOKUP_FIT = FitConfig(1200, 32, 3e-3), FitConfig(600, 32, 2e-3)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        *(
            Recipe(TASKS["arithmetic"], mechanism, fit=SLOW_FITS.get(mechanism.edits, FIT))
            for mechanism in MECHANISMS.values()
        ),
        *(Recipe(TASKS["arithmetic"], MECHANISMS[name], seed=seed) for seed in SEEDS for name in ("reads", "ignores")),
        *(Recipe(TASKS["lookup"], MECHANISMS[name], LOOKUP_BASE_FIT, LOOKUP_FIT) for name in COMMON),
        *(Recipe(TASKS["walk"], MECHANISMS[name]) for name in COMMON),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of an organism. Raises ArgumentError for an unknown name."""
    if name not in RECIPES:
        raise ArgumentError(f"no tiny organism is called {name!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[name]
