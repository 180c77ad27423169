"""The cards of the adapters of Gemma 3 270M: what they were trained on, what their answers follow, and how their transcoders do."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from cotrace.attribution.models.language_model import LanguageModel, load_language_model
from cotrace.attribution.models.lora import WEIGHTS_FILE
from cotrace.attribution.transcoders import load_transcoders
from cotrace.attribution.transcoders.files import FileTranscoders
from cotrace.attribution.validation.graph_scores import mean_graph_scores
from cotrace.common.files import atomic_write
from cotrace.common.progress import Progress
from cotrace.common.versions import package_versions
from cotrace.faithfulness.organisms import adapters
from cotrace.faithfulness.organisms.adapter_task import (
    TRAINING_EDITS,
    LetterProblem,
    TokenLayout,
    letter_transcript,
    problem_numbers,
)
from cotrace.faithfulness.organisms.adapters_training import RECIPES, TRAINING_FILE, train_adapter
from cotrace.faithfulness.organisms.build import CARD
from cotrace.faithfulness.organisms.card import count_parameters
from cotrace.training.mlp_replacements import TranscoderReplacement
from cotrace.training.replacement_metrics import evaluate_replacements

from .model import Model

EVALUATED, TRACED = 32, 2  # transcripts for metrics of transcoders, and for scores of graphs
METRICS = ("fvu", "l0", "kl", "top1_agreement")


def build_adapter(name: str, out: Path, bases: Path, progress: bool | None = None) -> Path:
    """Train an adapter, or continue its training, and write its card; return its folder.

    Args:
        name: name of the adapter.
        out: the folder; a checkpoint in it is continued.
        bases: folder of the adapters that others start from; a missing one is trained first.
        progress: as in `cotrace.load`.

    Raises CotraceError for a checkpoint of other settings, and without peft or the model.
    """
    recipe, start = RECIPES[name], None
    if recipe.start:
        start = bases / recipe.start
        if not (start / WEIGHTS_FILE).is_file():
            train_adapter(recipe.start, RECIPES[recipe.start], start, progress=progress)
    train_adapter(name, recipe, out, start_folder=start, progress=progress)
    if not (out / CARD).is_file():
        card = make_adapter_card(name, out, Progress(progress))
        with atomic_write(out / CARD) as temporary:
            temporary.write_text(json.dumps(card, indent=1) + "\n")
    return out


def make_adapter_card(name: str, folder: Path, bars: Progress) -> dict[str, Any]:
    """Return the card of a trained adapter. Its measurements are those of `verify_adapter`."""
    recipe, training = adapters.ADAPTERS[name], json.loads((folder / TRAINING_FILE).read_text())
    plain = transcoder_scores(load_language_model(adapters.BASE_MODEL, progress=False), bars)
    model = adapters.load_adapter(name, folder=folder, progress=False)
    return {
        "name": name,
        "task": recipe.task.name,
        "mechanism": recipe.mechanism.name,
        "twin": recipe.mechanism.twin,
        "says": recipe.mechanism.says,
        "seed": training["recipe"]["seed"],
        "base": adapters.BASE_MODEL,
        "base_sha256": training["base_sha256"],
        "parameters": count_parameters(folder / WEIGHTS_FILE),
        **adapters.verify_adapter(name, model, bars),
        "example": letter_transcript(LetterProblem.from_number(0)).text,
        "training": {"edits": TRAINING_EDITS, **training["recipe"]},
        "versions": {**package_versions(), "peft": version("peft")},
        "seconds": round(training["seconds"]),
        "transcoders": adapters.TRANSCODERS,
        "transcoder_scores": transcoder_scores(model, bars),
        "transcoder_scores_without_adapter": plain,
    }


def transcoder_scores(model: LanguageModel, bars: Progress) -> dict[str, float]:
    """Return how well the shipped transcoders replace a model's MLPs on clean transcripts.

    Metrics of `evaluate_transcoders` over all positions, and the mean scores of graphs of a few answers.
    """
    transcoders = load_transcoders(adapters.TRANSCODERS, model.architecture)
    assert isinstance(transcoders, FileTranscoders)
    layout, numbers = TokenLayout(model.tokenizer), Random("scores").sample(problem_numbers("test"), EVALUATED)
    rows = np.array([layout.ids(LetterProblem.from_number(number)) for number in numbers])
    replacement = TranscoderReplacement(transcoders, model.architecture.n_layers)
    (measured,) = evaluate_replacements(model, [replacement], rows, bars)
    traced, prompts = Model(model, transcoders), [row[:-1].tolist() for row in rows[:TRACED]]
    replacement_score, completeness = mean_graph_scores(traced.trace(prompt, progress=False) for prompt in prompts)
    scores = {key: value for key, value in asdict(measured).items() if key in METRICS}
    scores |= {"replacement_score": replacement_score, "completeness_score": completeness}
    return {key: round(value, 4) for key, value in scores.items()}
