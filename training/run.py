"""Training runs: `train_transcoders` and `resume_training`."""

import os
from pathlib import Path

from cotrace.attribution.models.language_model import LanguageModel, load_language_model
from cotrace.common.errors import FileError
from cotrace.common.progress import Progress

from .checkpoints import create_run, has_checkpoint, is_run, read_config, restore
from .config import TrainingConfig
from .export import export_transcoders
from .loop import train
from .model_card import write_model_card
from .plot import plot_history
from .shards import Shard, device_of_process
from .trainer import Trainer


def train_transcoders(
    config: TrainingConfig, out: str | os.PathLike, *, device: str = "auto", progress: bool | None = None
) -> Path:
    """Train transcoders; return the folder of the set, in the layout of Gemma Scope 2.

    A run that was stopped continues with `resume_training`. Under torchrun each process trains a part of the features.

    Args:
        config: the settings.
        out: folder for checkpoints and results; created if it does not exist.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

    Raises:
        FileError: the folder holds another run, or the data cannot be read.
        CotraceError: the data has too few tokens, or the loss is not finite.
    """
    folder = Path(out)
    if is_run(folder) and Shard.current(device_of_process(device)).rank == 0:
        raise FileError(f"{folder} holds a run already: continue it with --resume, or choose another folder")
    return _run(config, folder, device, progress)


def resume_training(out: str | os.PathLike, *, device: str = "auto", progress: bool | None = None) -> Path:
    """Continue the run in a folder from its last checkpoint, with its own settings; return the folder of the set.

    Raises FileError if the folder holds no run, or its checkpoint is damaged.
    """
    folder = Path(out)
    return _run(read_config(folder), folder, device, progress)


def _run(config: TrainingConfig, folder: Path, device: str, progress: bool | None) -> Path:
    device = device_of_process(device)
    shard = Shard.current(device)
    progress = progress if shard.rank == 0 else False
    model = load_language_model(config.model, device=device, progress=progress)
    arch = model.architecture
    trainer = Trainer(config, arch.n_layers, arch.d_model, model.weights.device, shard)
    if has_checkpoint(folder):
        restore(trainer, folder)
    elif shard.rank == 0:
        create_run(folder, config)
    train([trainer], model, [folder], Progress(progress))
    return write_results(trainer, model, folder)


def write_results(trainer: Trainer, model: LanguageModel, folder: Path) -> Path:
    """Write the transcoders, the model card and the training plot; return the folder of the set."""
    result = export_transcoders(trainer, folder, model.source.name)
    if trainer.shard.rank == 0:
        plot_history(trainer.history, folder / "training.svg")
        write_model_card(folder, trainer.config, model, trainer.history)
    trainer.shard.barrier()
    return result
