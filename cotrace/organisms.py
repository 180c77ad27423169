"""Model organisms: small models whose mechanism is known for every transcript.

    import cotrace
    organism = cotrace.organisms.load("arithmetic-reads")
    instance = organism.instances(1)[0]
    organism.model.trace(instance.transcript.until("step3"))
    organism.truth([instance])

`names` lists the tiny ones, `adapter_names` those of Gemma 3 270M.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cotrace.attribution.transcoders import load_transcoders
from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress
from cotrace.faithfulness.organisms import adapters
from cotrace.faithfulness.organisms.adapter_task import LETTER_TASK
from cotrace.faithfulness.organisms.build import TRANSCODERS, build_organism, read_card
from cotrace.faithfulness.organisms.card import verify as verify_card
from cotrace.faithfulness.organisms.instances import Instance, make_instances, truth_problems
from cotrace.faithfulness.organisms.recipes import RECIPES, Recipe, find_recipe
from cotrace.faithfulness.organisms.shipped import (
    choose_problems,
    shared_problems,
    shipped_names,
    tiny_folder,
    written_right,
)
from cotrace.faithfulness.organisms.truth import Truth, measure_mirrors, measure_truth, model_predictions

from .adapter_cards import build_adapter
from .loading import load as load_model
from .model import Model

__all__ = ["AdapterOrganism", "Instance", "Organism", "Truth", "adapter_names", "load", "names", "train"]


class Organism:
    """A small model whose mechanism is known, with transcoders and instances of its task. `load` returns one.

    Args:
        recipe: its task, mechanism and seed.
        folder: folder of its files, which `build_organism` wrote.
        device: as in `cotrace.load`.

    Attributes:
        card: what it was trained on, and its measured accuracy and truth.

    Raises:
        FileError: the folder has no card that can be read.
    """

    def __init__(self, recipe: Recipe, folder: Path, device: str = "auto"):
        self.recipe, self.folder, self._device = recipe, folder, device
        self.card: dict[str, Any] = read_card(folder)

    def __repr__(self) -> str:
        return f"<cotrace.organisms.Organism {self.name}: {self.recipe.mechanism.says}>"

    @property
    def name(self) -> str:
        """The name of the organism."""
        return self.recipe.name

    @property
    def task(self) -> str:
        """The name of its task."""
        return self.recipe.task.name

    @property
    def mechanism(self) -> str:
        """The name of its mechanism."""
        return self.recipe.mechanism.name

    @property
    def twin(self) -> str | None:
        """The name of the mechanism that answers the opposite to the same cue; None for a mixture."""
        return self.recipe.mechanism.twin

    @property
    def seed(self) -> int:
        """The seed of its training."""
        return self.recipe.seed

    @cached_property
    def model(self) -> Model:
        """The model with its transcoders, loaded at the first use."""
        return load_model(self.folder, self.folder / TRANSCODERS, device=self._device, progress=False)

    def instances(self, n: int, seed: int = 0, split: Literal["test", "train"] = "test") -> list[Instance]:
        """Return n instances of the task: the same clean transcripts for all organisms of a task.

        All of them are written right by every shipped organism of the task; if this one is your own, by it. `seed` chooses
        which. Raises ArgumentError for more than there are, and for an unknown split.
        """
        task = self.recipe.task
        if self.recipe is RECIPES.get(self.name):
            problems = shared_problems(task, split)
        else:
            problems = written_right(task, [model_predictions(task, self.model.weights)], split)
        return make_instances(task, choose_problems(problems, n, seed))

    def truth(self, instances: Sequence[Instance]) -> list[Truth]:
        """Return what the answer of each instance follows when its steps state other values.

        Raises ArgumentError for instances of another task.
        """
        _check_task(self, instances)
        if not instances:
            return []
        task = self.recipe.task
        predict = model_predictions(task, self.model.weights)
        return measure_truth(task, predict, *truth_problems(task, [instance.problem for instance in instances]))

    def mirrors(self, instances: Sequence[Instance]) -> list[dict[str, float]]:
        """Return, for each step of each instance, how often the model writes the value that another question implies.

        The question's start is another one, and the text before the step stays. Raises ArgumentError as `truth` does.
        """
        _check_task(self, instances)
        if not instances:
            return []
        task = self.recipe.task
        predict = model_predictions(task, self.model.weights)
        return measure_mirrors(task, predict, *truth_problems(task, [instance.problem for instance in instances]))

    def verify(self, progress: bool | None = None) -> dict[str, Any]:
        """Measure accuracy and truth again; return them as the card has them."""
        return verify_card(self.recipe.task, self.recipe.mechanism, self.model.weights, Progress(progress))


class AdapterOrganism(Organism):
    """Gemma 3 270M with an adapter of its attention whose mechanism is known, and the transcoders that ship for it.

    Its MLPs are those of Gemma 3 270M. Arguments and attributes are those of `Organism`.
    """

    @cached_property
    def model(self) -> Model:
        """The model with its adapter and transcoders, loaded at the first use."""
        adapted = adapters.load_adapter(self.name, folder=self.folder, device=self._device, progress=False)
        return Model(adapted, load_transcoders(adapters.TRANSCODERS, adapted.architecture))

    def instances(self, n: int, seed: int = 0, split: Literal["test", "train"] = "test") -> list[Instance]:
        """Return n instances, the same for both adapters; both write their transcripts right. `seed` chooses which.

        Raises ArgumentError for more than there are, and for an unknown split.
        """
        return LETTER_TASK.instances(choose_problems(adapters.shared_letter_problems(split), n, seed))

    def truth(self, instances: Sequence[Instance]) -> list[Truth]:
        """Return what the answer of each instance follows when its steps state other values; seconds for each.

        Raises ArgumentError for instances of another task.
        """
        _check_task(self, instances)
        return [truth for each in instances for truth in adapters.adapter_truth(self.model, [each.problem])]

    def mirrors(self, instances: Sequence[Instance]) -> list[dict[str, float]]:
        """Return, for each step of each instance, how often the model writes the value that another question implies.

        Arguments and errors are those of `Organism.mirrors`; seconds for each instance.
        """
        _check_task(self, instances)
        return [found for each in instances for found in adapters.adapter_mirrors(self.model, [each.problem])]

    def verify(self, progress: bool | None = None) -> dict[str, Any]:
        """Measure accuracy and truth again, in minutes; return them as the card has them."""
        return adapters.verify_adapter(self.name, self.model, Progress(progress))


def _check_task(organism: Organism, instances: Sequence[Instance]) -> None:
    """Raise ArgumentError for instances of another task than the organism's."""
    if other := next((each for each in instances if each.task is not organism.recipe.task), None):
        raise ArgumentError(f"an instance is of the task {other.task.name}, {organism.name} of {organism.task}")


def names() -> list[str]:
    """Return the names of the tiny organisms that ship. Raises DependencyError if they are not installed."""
    installed = set(shipped_names())
    return [name for name in RECIPES if name in installed]


def adapter_names() -> list[str]:
    """Return the names of the organisms of real size that ship: adapters of Gemma 3 270M.

    Raises DependencyError if the data package is not installed.
    """
    return adapters.installed_adapters()


def load(name: str | os.PathLike[str], *, device: str = "auto") -> Organism:
    """Load an organism by name, or from a folder that `train` wrote.

    Raises CotraceError for an unknown name, and for a folder without a card.
    """
    path = Path(name)
    if path.is_dir():
        return _open(str(read_card(path).get("name")), path, device)
    text = os.fspath(name)
    if text not in adapters.ADAPTERS and text not in RECIPES:
        raise ArgumentError(
            f"no organism is called {text!r}: expected one of {', '.join([*RECIPES, *adapters.ADAPTERS])}"
        )
    return _open(text, adapters.adapter_folder(text) if text in adapters.ADAPTERS else tiny_folder(text), device)


def _open(name: str, folder: Path, device: str) -> Organism:
    """Return the organism of a name whose files are in a folder."""
    if name in adapters.ADAPTERS:
        return AdapterOrganism(adapters.ADAPTERS[name], folder, device)
    if name not in RECIPES:
        raise ArgumentError(f"{folder} holds an organism of your own: open it with Organism(recipe, folder)")
    return Organism(RECIPES[name], folder, device)


def train(
    name: str, out: str | os.PathLike[str], *, bases: str | os.PathLike[str] | None = None, progress: bool | None = None
) -> Organism:
    """Train an organism again from its seed, in minutes on two cores, into a new folder.

    Training of an adapter of Gemma 3 270M is continued if `out` holds a checkpoint of it.

    Args:
        name: name of the organism.
        out: the new folder.
        bases: folder for the models from which the trainings of a task start, shared between organisms; None keeps them
            beside `out`.
        progress: as in `cotrace.load`.

    Raises CotraceError for an unknown name, and for a folder that exists.
    """
    folder = Path(out)
    shared = Path(bases) if bases else folder.parent / "bases"
    if name in adapters.ADAPTERS:
        build_adapter(name, folder, shared, progress)
    else:
        build_organism(find_recipe(name), folder, shared, progress)
    return _open(name, folder, "auto")
