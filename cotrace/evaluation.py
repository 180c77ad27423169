"""Evaluate transcoders, SAEs and crosscoders on held-out text; of transcoders the predictions and traced graphs too."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from cotrace.attribution.dictionaries import SparseDictionary, find_dictionary, names_dictionary, open_dictionary
from cotrace.attribution.dictionaries.evaluation import DictionaryEvaluation, evaluate_dictionary
from cotrace.attribution.models.architecture import read_architecture
from cotrace.attribution.models.language_model import LanguageModel, find_source, load_language_model
from cotrace.attribution.transcoders import load_transcoders
from cotrace.attribution.validation.graph_scores import EVERYDAY_PROMPTS, mean_graph_scores
from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress, Step
from cotrace.common.versions import package_versions
from cotrace.graphs import Graph
from cotrace.training.activations import batch_sequences, to_device, unmasked_positions
from cotrace.training.evaluate import EvaluationText, evaluate
from cotrace.training.replacement_metrics import TranscoderEvaluation

from .defaults import DEFAULT_MODEL
from .model import Model


def evaluate_transcoders(
    transcoders: Sequence[str | os.PathLike],
    *,
    model: str | os.PathLike = DEFAULT_MODEL,
    data: Sequence[str] = EvaluationText.data,
    run: str | os.PathLike | None = EvaluationText.run,
    tokens: int = EvaluationText.tokens,
    fit_tokens: int = EvaluationText.fit_tokens,
    context: int = EvaluationText.context,
    seed: int = EvaluationText.seed,
    prompts: Sequence[str] = EVERYDAY_PROMPTS,
    baselines: bool = True,
    device: str = "auto",
    progress: bool | None = None,
) -> list[TranscoderEvaluation]:
    """Measure sets of transcoders on the same text, followed by mean ablation and an affine map.

    Args:
        transcoders: folders or Hub ids, as `cotrace.load` takes them.
        model: the model they were trained for.
        data: text sources, as in `TrainingConfig.data`; or
        run: the folder of a training run, whose held-out text is used.
        tokens: number of tokens to measure on.
        fit_tokens: number of other tokens to fit the baselines to.
        context: tokens per sequence, with `data`.
        seed: seed of the choice of text, with `data`.
        prompts: prompts that are traced for the mean graph scores; an empty list skips them.
        baselines: measure mean ablation and an affine map too.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

    Raises:
        ArgumentError: no transcoders or no text, or transcoders that are not in files.
        CotraceError: the model, transcoders or text cannot be loaded, or there is too little text.
    """
    if not transcoders:
        raise ArgumentError("no transcoders to evaluate: name a folder or Hub id")
    text = EvaluationText(tuple(data), run, tokens, fit_tokens, context, seed)
    bars = Progress(progress)
    source = find_source(model, bars)
    arch = read_architecture(source.config())
    sets = [load_transcoders(spec, arch) for spec in transcoders]
    language_model = load_language_model(source, device=device, progress=progress)
    evaluations = evaluate(language_model, sets, text, bars, baselines=baselines)
    if prompts:
        for one, evaluation in zip(sets, evaluations, strict=False):  # baselines follow, and have no graphs
            graphs = _trace_prompts(Model(language_model, one), prompts, bars)
            evaluation.replacement_score, evaluation.completeness_score = mean_graph_scores(graphs)
    return evaluations


def _trace_prompts(model: Model, prompts: Sequence[str], bars: Progress) -> Iterator[Graph]:
    """Yield the unpruned graph of each prompt."""
    with bars.phase("tracing prompts", len(prompts)) as advance:
        for prompt in prompts:
            yield model.trace(prompt, progress=False)
            advance()


def evaluate_dictionaries(
    dictionaries: Sequence[str | os.PathLike],
    *,
    model: str | os.PathLike = DEFAULT_MODEL,
    data: Sequence[str] = EvaluationText.data,
    run: str | os.PathLike | None = EvaluationText.run,
    tokens: int = EvaluationText.tokens,
    context: int = EvaluationText.context,
    seed: int = EvaluationText.seed,
    device: str = "auto",
    progress: bool | None = None,
) -> list[DictionaryEvaluation]:
    """Measure the reconstruction of SAEs and crosscoders on the same text.

    Args:
        dictionaries: folders or Hub ids, as `cotrace.load_dictionary` takes them.
        model: the model they were trained on.
        data: text sources, as in `TrainingConfig.data`; or
        run: the folder of a training run, whose held-out text is used.
        tokens: number of tokens to measure on.
        context: tokens per sequence, with `data`.
        seed: seed of the choice of text, with `data`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

    Raises:
        ArgumentError: no dictionaries, or no text.
        CotraceError: the model, dictionaries or text cannot be loaded, or there is too little text.
    """
    if not dictionaries:
        raise ArgumentError("no dictionaries to evaluate: name a folder or Hub id")
    text = EvaluationText(tuple(data), run, tokens, 0, context, seed)
    found = [find_dictionary(spec) for spec in dictionaries]
    bars = Progress(progress)
    source = find_source(model, bars)
    opened = [open_dictionary(each, read_architecture(source.config())) for each in found]
    language_model = load_language_model(source, device=device, progress=progress)
    sequences_SP, _ = text.load(language_model, bars, fit=False)
    results = [_measure(dictionary, language_model, sequences_SP, bars) for dictionary in opened]
    for result in results:
        result.settings = {"model": language_model.source.name, **text.settings, "versions": package_versions()}
    return results


def only_dictionaries(specs: Sequence[str | os.PathLike]) -> bool:
    """Return whether all specs name SAEs or crosscoders, False if none does. Raises ArgumentError for some of both."""
    are_dictionaries = [names_dictionary(spec) for spec in specs]
    if any(are_dictionaries) and not all(are_dictionaries):
        raise ArgumentError("SAEs and transcoders have different measurements: evaluate them in separate commands")
    return any(are_dictionaries)


def _measure(
    dictionary: SparseDictionary, model: LanguageModel, sequences_SP: np.ndarray, bars: Progress
) -> DictionaryEvaluation:
    with bars.phase(f"evaluating {dictionary.name}", len(sequences_SP)) as advance:
        return evaluate_dictionary(dictionary, model.weights, _batches(model, sequences_SP, advance))


def _batches(model: LanguageModel, sequences_SP: np.ndarray, advance: Step) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield token ids (B, P) and their unmasked positions (B, P), and advance after each batch."""
    for ids_BP in to_device(model, sequences_SP).split(batch_sequences(model, sequences_SP.shape[1])):
        yield ids_BP, unmasked_positions(model, ids_BP)
        advance(len(ids_BP))
