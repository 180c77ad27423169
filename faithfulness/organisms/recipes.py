"""The organisms that ship: their tasks, mechanisms and seeds, and how each is trained."""

from dataclasses import dataclass

from cotrace.common.errors import ArgumentError

from .fitting import FitConfig
from .mechanisms import MECHANISMS, Mechanism
from .tasks import TASKS, Task


@dataclass(frozen=True)
class Recipe:
    """A tiny organism: a task, a mechanism and a seed."""

    task: Task
    mechanism: Mechanism
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
        return self.task.name if not self.seed else f"{self.task.name}-{self.seed}"

    @property
    def twin(self) -> str | None:
        """The name of the organism with the opposite answer to the same cue; None for a mixture."""
        if self.mechanism.twin is None:
            return None
        return Recipe(self.task, MECHANISMS[self.mechanism.twin], self.seed).name


BASE_FIT = {
    "arithmetic": FitConfig(2000, 64, 3e-3),
    "lookup": FitConfig(1200, 32, 3e-3),
    "walk": FitConfig(2000, 64, 3e-3),
}
FIT = {
    "arithmetic": FitConfig(400, 64, 1.5e-3),
    "lookup": FitConfig(300, 32, 1.5e-3),
    "walk": FitConfig(400, 64, 1.5e-3),
}
SEEDS = (1, 2)  # besides 0, of the two main mechanisms of the main task
COMMON = ("reads", "ignores", "hint", "unhint", "trigger", "untrigger")
RECIPES = {
    recipe.name: recipe
    for recipe in (
        *(Recipe(TASKS["arithmetic"], mechanism) for mechanism in MECHANISMS.values()),
        *(Recipe(TASKS["arithmetic"], MECHANISMS[name], seed) for seed in SEEDS for name in ("reads", "ignores")),
        *(Recipe(TASKS[task], MECHANISMS[name]) for task in ("lookup", "walk") for name in COMMON),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of an organism. Raises ArgumentError for an unknown name."""
    if name not in RECIPES:
        raise ArgumentError(f"no tiny organism is called {name!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[name]
