"""Evaluate transcoders and baselines as replacements of a model's MLPs on text they were not trained on."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.attribution.transcoders import Transcoders
from cotrace.attribution.transcoders.files import FileTranscoders
from cotrace.common.errors import ArgumentError
from cotrace.common.files import atomic_write
from cotrace.common.progress import Progress
from cotrace.common.versions import package_versions

from .baselines import fit_baselines
from .checkpoints import read_config
from .data import n_held_out, prepare_sequences, tokenize_sources
from .mlp_replacements import MLPReplacement, TranscoderReplacement
from .replacement_metrics import TranscoderEvaluation, evaluate_replacements


@dataclass(frozen=True)
class EvaluationText:
    """The text of an evaluation.

    Args:
        data: sources, as in `TrainingConfig.data`; or
        run: the folder of a training run, whose held-out text is used.
        tokens: number of tokens to measure on.
        fit_tokens: number of other tokens to fit the baselines to.
        context: tokens per sequence; a run has its own.
        seed: seed of the choice of text; a run has its own.

    Raises ArgumentError unless exactly one of `data` and `run` is given.
    """

    data: tuple[str, ...] = ()
    run: str | os.PathLike | None = None
    tokens: int = 20_000
    fit_tokens: int = 32_768
    context: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.run is None) == (not self.data):
            raise ArgumentError("no text to evaluate on: give either data, or the folder of a training run")

    def load(self, model: LanguageModel, bars: Progress, *, fit: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return sequences (S, P) to measure on, and sequences to fit to (none if not `fit`)."""
        fit_tokens = self.fit_tokens if fit else 0
        if self.run is None:
            n_measured, n_fit = (-(-count // (self.context - 1)) for count in (self.tokens, fit_tokens))
            ids_SP = tokenize_sources(self.data, model, self.context, n_measured + n_fit, self.seed, bars)
            return ids_SP[n_fit:], ids_SP[:n_fit]
        folder = Path(self.run)
        config = read_config(folder)
        ids_SP = prepare_sequences(config, model, folder, bars)
        trained, held_out = np.split(ids_SP, [len(ids_SP) - n_held_out(config)])
        return held_out[: -(-self.tokens // (config.context - 1))], trained[: -(-fit_tokens // (config.context - 1))]

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings that identify the text in a result file."""
        return {"data": list(self.data), "seed": self.seed} if self.run is None else {"run": os.fspath(self.run)}


def evaluate(
    model: LanguageModel,
    transcoders: Sequence[Transcoders],
    text: EvaluationText,
    bars: Progress,
    *,
    baselines: bool = True,
) -> list[TranscoderEvaluation]:
    """Measure transcoders of one model on the same text, followed by mean ablation and an affine map.

    Raises ArgumentError for transcoders that are not in files, and without text.
    """
    replacements: list[MLPReplacement] = []
    for one in transcoders:
        if not isinstance(one, FileTranscoders):
            raise ArgumentError(f"{one.name} cannot be evaluated: name transcoders in files")
        replacements.append(TranscoderReplacement(one, model.architecture.n_layers))
    ids_SP, fit_SP = text.load(model, bars, fit=baselines)
    if baselines:
        with bars.phase("fitting baselines", len(fit_SP)) as advance:
            replacements += fit_baselines(model, fit_SP, advance)
    evaluations = evaluate_replacements(model, replacements, ids_SP, bars)
    for evaluation in evaluations:
        evaluation.settings |= {"model": model.source.name, "context": ids_SP.shape[1], "versions": package_versions()}
        evaluation.settings |= text.settings
    return evaluations


def save_evaluations(evaluations: Sequence[TranscoderEvaluation], path: Path) -> None:
    """Write evaluations to a JSON file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps([evaluation.to_json() for evaluation in evaluations], indent=1) + "\n")
