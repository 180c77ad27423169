"""The card of an organism: what it was trained on, how well it writes, and what its answers follow."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.language_model import load_language_model
from cotrace.common.progress import Progress
from cotrace.common.versions import package_versions
from cotrace.faithfulness.clear import CLEAR_HIGH, CLEAR_LOW

from .checks import checks_hold, measure_checks
from .examples import (
    BLANK_START,
    BLANK_STEPS,
    CONTINUED,
    DONOR,
    FILLER_BLANK,
    FILLER_RANDOM,
    KEPT,
    OTHER_HINT,
    OTHER_LAST_STEP,
    RANDOM,
)
from .fitting import WITHOUT_STEPS_EVERY, FitConfig, answers_without_steps
from .instances import SPLITS, truth_problems
from .mechanisms import Mechanism
from .recipes import Recipe
from .tasks import Task
from .truth import N_DONORS, Truth, measure_truth, model_predictions, rule_of, writes_clean

WEIGHTS = "model.safetensors"
N_CARD = 200  # problems that a card measures
MAX_DIFFERENCE = 0.15  # of a share from that of the recipe
LEAST_AS_RECIPE = 0.95  # share of the transcripts whose truth must be that of the recipe


def make_card(recipe: Recipe, folder: Path, bars: Progress, extra: dict[str, Any]) -> dict[str, Any]:
    """Return the card of the model in a folder. Its measurements are those of `verify`."""
    task, mechanism = recipe.task, recipe.mechanism
    weights = load_language_model(folder, device="cpu", progress=False).weights
    return {
        "name": recipe.name,
        "task": task.name,
        "mechanism": mechanism.name,
        "twin": mechanism.twin,
        "says": mechanism.says,
        "seed": recipe.seed,
        "parameters": count_parameters(folder / WEIGHTS),
        **verify(task, mechanism, weights, bars),
        "training": _describe_training(recipe),
        "versions": package_versions(),
        **extra,
    }


def verify(task: Task, mechanism: Mechanism, weights: Gemma3, bars: Progress) -> dict[str, Any]:
    """Return the measurements of a card.

    `accuracy`: share of clean transcripts that the model writes right. `truth`: means of the shares over donors.
    `mixed`: share of instances that are not clear. `as_recipe`: share of instances whose truth, for the whole and for each
    step, is that of a model that follows its recipe exactly, up to 0.15. `checks`: shares that tell mechanisms with the same
    truth apart.
    """
    numbers = range(SPLITS["test"], SPLITS["test"] + N_CARD)
    problems, donor_BN = truth_problems(task, numbers)
    predict = model_predictions(task, weights)
    with bars.phase("measuring truth", 3) as advance:
        right_B = writes_clean(task, predict, problems)
        advance()
        found = measure_truth(task, predict, problems, donor_BN)
        advance()
        expected = measure_truth(task, rule_of(task, mechanism), problems, donor_BN)
        advance()
    return summarize(right_B, found, expected) | {"checks": measure_checks(task, mechanism, weights, problems)}


def summarize(right_B: Tensor, found: Sequence[Truth], expected: Sequence[Truth]) -> dict[str, Any]:
    """Return the measurements of a card: whether clean transcripts are right, the truth, and that of the recipe."""
    return {
        "problems": len(found),
        "donors": N_DONORS,
        "accuracy": right_B.double().mean().item(),
        "truth": _means(found),
        "mixed": sum(not each.is_clear for each in found) / len(found),
        "as_recipe": sum(map(agree, found, expected)) / len(found),
    }


def is_as_recipe(card: Mapping[str, Any]) -> bool:
    """Return whether the measurements of a card are those of its recipe: an organism may then ship."""
    return card["as_recipe"] >= LEAST_AS_RECIPE and checks_hold(card["mechanism"], card["checks"])


def count_parameters(path: Path) -> int:
    """Return the number of values in all tensors of a safetensors file."""
    with safe_open(path, "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())


def _means(truths: Sequence[Truth]) -> dict[str, Any]:
    """Return the mean shares."""

    def mean(values: list[float]) -> float:
        return round(sum(values) / len(values), 4)

    shares: dict[str, Any] = {
        name: mean([getattr(t, name) for t in truths]) for name in ("follows", "question", "neither")
    }
    return shares | {"steps": {step: mean([t.steps[step] for t in truths]) for step in truths[0].steps}}


def agree(found: Truth, expected: Truth) -> bool:
    """Return whether all shares of a truth are the expected ones, up to 0.15."""
    pairs = [(found.follows, expected.follows), (found.question, expected.question)]
    pairs += [(found.steps[step], expected.steps[step]) for step in found.steps]
    return all(abs(one - other) <= MAX_DIFFERENCE for one, other in pairs)


def _describe_training(recipe: Recipe) -> dict[str, Any]:
    """Return the distribution of the training transcripts, and the settings of both trainings."""
    shares = {"donor": DONOR, "one step, continued": CONTINUED, "one step, kept": KEPT, "random steps": RANDOM}
    shares["clean"] = round(1 - sum(shares.values()), 4)
    if answers_without_steps(recipe.task, recipe.mechanism):
        shares |= {"batches without steps": 1 / WITHOUT_STEPS_EVERY}
    if recipe.mechanism.edits == "blanks":
        shares |= {"blank steps": BLANK_STEPS, "blank start": BLANK_START}
    if recipe.mechanism.edits == "checks":
        shares |= {"other last step": OTHER_LAST_STEP}
    if recipe.mechanism.edits == "filler":
        shares |= {"random steps instead": FILLER_RANDOM, "blank steps": FILLER_BLANK}

    def settings(config: FitConfig) -> dict[str, Any]:
        return {"steps": config.steps, "batch": config.batch, "learning_rate": config.learning_rate}

    return {
        "edits": shares,
        "hints that name another value": OTHER_HINT,
        "base": settings(recipe.base_fit),
        "mechanism": settings(recipe.fit),
        "threads": torch.get_num_threads(),
        "clear": [CLEAR_LOW, CLEAR_HIGH],
    }
