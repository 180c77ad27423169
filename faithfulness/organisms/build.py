"""Train an organism from its recipe: the base of its task, its mechanism, its transcoders, its truth and its card."""

import json
import shutil
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Gemma3ForCausalLM

from cotrace.attribution.models.language_model import load_language_model
from cotrace.attribution.models.loading import quiet_transformers
from cotrace.attribution.transcoders import load_transcoders
from cotrace.attribution.transcoders.export import write_layout
from cotrace.attribution.transcoders.files import FileTranscoders
from cotrace.common.errors import FileError
from cotrace.common.files import PART_SUFFIX, hidden_beside, publish_folder
from cotrace.common.progress import Progress
from cotrace.training import TrainingConfig, train_transcoders
from cotrace.training.data import TOKENS_FILE, n_sequences, save_sequences

from .card import make_card
from .examples import draw_examples
from .fitting import fit, new_model
from .mechanisms import MECHANISMS, Mechanism
from .recipes import Recipe
from .tasks import Task
from .tokenizer import save_tokenizer

BASE_MECHANISM = MECHANISMS["reads"]  # of the model from which all others start
TRANSCODERS, CARD = "transcoders", "card.json"
WIDTH, TARGET_L0, TOKENS = 256, 12.0, 400_000


def build_organism(recipe: Recipe, out: Path, bases: Path, progress: bool | None = None) -> Path:
    """Train an organism and write it to the folder `out`, which appears when it is complete.

    Args:
        recipe: what to train.
        out: the new folder: the model, its tokenizer, its transcoders and its card.
        bases: folder of the models from which the training starts; a missing one is trained first.
        progress: as in `cotrace.load`.

    Raises FileError if `out` exists.
    """
    if out.exists():
        raise FileError(f"{out} exists already; choose a new folder")
    started, bars = time.monotonic(), Progress(progress)
    base = _base(recipe, bases, bars)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = hidden_beside(out, PART_SUFFIX)
    try:
        with quiet_transformers():
            model = Gemma3ForCausalLM.from_pretrained(base, attn_implementation="eager")
        fit(model, recipe.task, recipe.mechanism, recipe.fit, _seed(recipe), bars, f"training {recipe.name}")
        _save(model, recipe.task, scratch)
        _add_transcoders(recipe, scratch, progress)
        card = make_card(recipe, scratch, bars, {"seconds": round(time.monotonic() - started)})
        (scratch / CARD).write_text(json.dumps(card, indent=1) + "\n")
        publish_folder(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out


def _base(recipe: Recipe, bases: Path, bars: Progress) -> Path:
    """Return the folder of the model from which the training starts; train it if it is missing."""
    folder = bases / recipe.base_name
    if folder.is_dir():
        return folder
    bases.mkdir(parents=True, exist_ok=True)
    scratch = hidden_beside(folder, PART_SUFFIX)
    try:
        model = new_model(recipe.task, recipe.seed)
        title = f"training the base of {recipe.base_name}"
        fit(model, recipe.task, BASE_MECHANISM, recipe.base_fit, recipe.seed, bars, title)
        _save(model, recipe.task, scratch)
        publish_folder(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _save(model: Gemma3ForCausalLM, task: Task, folder: Path) -> None:
    with quiet_transformers():
        model.save_pretrained(folder)
        save_tokenizer(task, folder)


def _seed(recipe: Recipe) -> int:
    """Return the seed of an organism's training examples, different for each mechanism."""
    return 1000 * recipe.seed + zlib.crc32(recipe.mechanism.name.encode())


def _add_transcoders(recipe: Recipe, folder: Path, progress: bool | None) -> None:
    """Train a cross-layer transcoder on transcripts, clean and edited, and write it packed beside the model."""
    task, run = recipe.task, folder / "run"
    config = TrainingConfig(
        model=str(folder),
        data=("transcripts",),
        width=WIDTH,
        target_l0=TARGET_L0,
        tokens=TOKENS,
        context=task.n_positions,
        seed=recipe.seed,
        dead_after_tokens=50_000,
    )
    run.mkdir()
    save_sequences(run / TOKENS_FILE, _sequences(task, recipe.mechanism, n_sequences(config), recipe.seed), config)
    trained = train_transcoders(config, run, progress=progress)
    language_model = load_language_model(folder, device="cpu", progress=False)
    opened = load_transcoders(trained, language_model.architecture)
    assert isinstance(opened, FileTranscoders)
    opened.name = trained.name  # the files record it, and the run is removed
    write_layout(opened, language_model.architecture.n_layers, folder / TRANSCODERS, "packed", Progress(False))
    shutil.rmtree(run)


def _sequences(task: Task, mechanism: Mechanism, n: int, seed: int) -> np.ndarray:
    """Return n transcripts as token ids (n, P)."""
    generator = torch.Generator().manual_seed(10**9 + seed)
    return draw_examples(task, mechanism, n, generator).ids_BP.numpy().astype(np.int32)


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of an organism's folder. Raises FileError if there is none that can be read."""
    try:
        return json.loads((folder / CARD).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{folder} has no readable {CARD}: install the organisms again, or train this one") from error
