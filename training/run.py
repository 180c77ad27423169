"""Training and evaluation as users call them: from settings to a result folder, from transcoders to a table."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cotrace.attribution.models.language_model import LanguageModel, load_language_model
from cotrace.attribution.transcoders.files import FileTranscoders
from cotrace.common.errors import CotraceError
from cotrace.common.files import atomic_write
from cotrace.common.progress import Progress
from cotrace.common.versions import package_versions
from cotrace.model import load

from .baselines import fit_baselines
from .checkpoints import begin_run, has_state, is_run, read_config, restore
from .config import Config
from .data import n_held_out, read, sequences
from .evaluate import EVERYDAY_PROMPTS, Result, StandIn, TranscoderStandIn, evaluate, scores
from .export import export
from .model_card import write_card
from .plot import plot_run
from .shards import Shard, device_of_process
from .trainer import Trainer, train


def train_run(config: Config, out: str | os.PathLike, *, device: str = "auto", progress: bool | None = None) -> Path:
    """Train transcoders into a folder; returns the folder of the set, in Gemma Scope 2's layout.

    A run that was stopped continues with `resume_run`. Raises ValueError for a folder that holds another
    run, for data that is missing or too little, and where the loss is not finite.
    """
    folder = Path(out)
    if is_run(folder) and Shard.here(device_of_process(device)).rank == 0:
        raise CotraceError(f"{folder} holds a run already; continue it with --resume, or choose another folder")
    return _run(config, folder, device, progress)


def resume_run(out: str | os.PathLike, *, device: str = "auto", progress: bool | None = None) -> Path:
    """Continue the run in a folder from its last checkpoint, with its own settings."""
    folder = Path(out)
    return _run(read_config(folder), folder, device, progress)


def _run(config: Config, folder: Path, device: str, progress: bool | None) -> Path:
    device = device_of_process(device)
    shard = Shard.here(device)
    progress = progress if shard.rank == 0 else False
    model = load_language_model(config.model, device=device, progress=progress)
    arch = model.architecture
    trainer = Trainer(config, arch.n_layers, arch.d_model, model.weights.device, shard)
    if has_state(folder):
        restore(trainer, folder)
    elif shard.rank == 0:
        begin_run(folder, config)
    train([trainer], model, [folder], Progress(progress))
    return finish(trainer, model, folder)


def finish(trainer: Trainer, model: LanguageModel, folder: Path) -> Path:
    """Write a trained dictionary's files, card and curves; returns the folder of the set."""
    result = export(trainer, folder, model.source.name)
    if trainer.shard.rank == 0:
        plot_run(trainer.history, folder / "training.svg")
        write_card(folder, trainer.config, model, trainer.history)
    trainer.shard.wait()
    return result


def measure(
    transcoders: Sequence[str | os.PathLike],
    *,
    model: str | os.PathLike = "gemma-3-270m",
    data: Sequence[str] = (),
    run: str | os.PathLike | None = None,
    tokens: int = 20_000,
    fit_tokens: int = 32_768,
    context: int = 256,
    seed: int = 0,
    prompts: Sequence[str] = EVERYDAY_PROMPTS,
    baselines: bool = True,
    device: str = "auto",
    progress: bool | None = None,
) -> list[Result]:
    """Measure sets of transcoders on the same held-out text, beside an affine map and mean ablation.

    Args:
        transcoders: folders or Hub ids, as `cotrace.load` takes them.
        model: the model they were trained for.
        data: text as `Config.data` names it, or
        run: the folder of a training run, whose held-out text is used.
        tokens: how much text to measure on.
        fit_tokens: how much other text to fit the baselines to.
        context: tokens of a sequence, where `data` is given.
        seed: of the choice of text.
        prompts: prompts whose graphs' scores are averaged; none skips them.
        baselines: whether to fit and measure them.
        device: `auto`, `cpu`, `cuda`, ….
        progress: show progress; None shows it on a terminal.

    Raises ValueError for what cannot be loaded, and for too little text.
    """
    if not transcoders:
        raise CotraceError("there is nothing to evaluate; name a folder or Hub id of transcoders")
    if (run is None) == (not data):
        raise CotraceError("name text to evaluate on: either data, or the folder of a training run")
    bars = Progress(progress)
    models = [load(model, spec, device=device, progress=progress) for spec in transcoders]
    held_out, fit = _evaluation_text(
        models[0].language_model, data, run, tokens, fit_tokens if baselines else 0, context, seed, bars
    )
    stand_ins: list[StandIn] = []
    for loaded in models:
        if not isinstance(loaded.transcoders, FileTranscoders):
            raise CotraceError(f"{loaded.transcoders.name} cannot stand in for MLPs; name transcoders in files")
        stand_ins.append(TranscoderStandIn(loaded.transcoders, loaded.architecture.n_layers))
    if baselines:
        with bars.phase("fitting baselines", len(fit)) as advance:
            stand_ins += fit_baselines(models[0].language_model, fit, advance)
    results = evaluate(models[0].language_model, stand_ins, held_out, bars)
    source = {"run": os.fspath(run)} if run is not None else {"data": list(data), "seed": seed}
    for result in results:
        result.settings |= {
            "model": models[0].source.name,
            "context": held_out.shape[1],
            "versions": package_versions(),
            **source,
        }
    for loaded, result in zip(models, results, strict=False):
        if prompts:
            result.replacement_score, result.completeness_score = scores(loaded, prompts, bars)
    return results


def save_results(results: Sequence[Result], path: Path) -> None:
    """Write results as JSON, all or nothing."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps([result.to_json() for result in results], indent=1) + "\n")


def _evaluation_text(
    model: LanguageModel,
    data: Sequence[str],
    run: str | os.PathLike | None,
    tokens: int,
    fit_tokens: int,
    context: int,
    seed: int,
    bars: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences to measure on, and sequences to fit to."""
    if run is None:
        n_measured, n_fit = (-(-count // (context - 1)) for count in (tokens, fit_tokens))
        ids_SP = read(data, model, context, n_measured + n_fit, seed, bars)
        return ids_SP[n_fit:], ids_SP[:n_fit]
    folder = Path(run)
    config = read_config(folder)
    ids_SP = sequences(config, model, folder, bars)
    seen, held_out = np.split(ids_SP, [len(ids_SP) - n_held_out(config)])
    return held_out[: -(-tokens // (config.context - 1))], seen[: -(-fit_tokens // (config.context - 1))]
