"""The folder of a training run: its settings, its checkpoint (one file per process) and its history."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cotrace.common.errors import ArgumentError, FileError, one_line
from cotrace.common.files import atomic_write
from cotrace.common.versions import package_versions

from .config import TrainingConfig
from .trainer import Trainer

HISTORY_FILE, CONFIG_FILE = "history.jsonl", "run.json"


def create_run(folder: Path, config: TrainingConfig) -> None:
    """Write the settings of a new run into a folder."""
    with atomic_write(folder / CONFIG_FILE) as temporary:
        temporary.write_text(str(config) + "\n")


def save_checkpoints(trainers: Sequence[Trainer], folders: Sequence[Path]) -> None:
    """Write the state of every trainer; the new files replace the old ones after every process has written its own.

    The history is written first: it may be longer than the checkpoint, never shorter.
    """
    with ExitStack() as files:
        for trainer, folder in zip(trainers, folders, strict=True):
            tensors, values = trainer.state()
            if trainer.shard.rank == 0:
                with atomic_write(folder / HISTORY_FILE) as temporary:
                    temporary.write_text("".join(json.dumps(record) + "\n" for record in trainer.history))
            metadata = {"state": json.dumps({**values, "shards": trainer.shard.size, "versions": package_versions()})}
            tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
            name = checkpoint_file(trainer.shard.rank)
            for leftover in folder.glob(f".{name}.*.part"):  # left by a killed process
                leftover.unlink()
            save_file(tensors, files.enter_context(atomic_write(folder / name)), metadata)
        trainers[0].shard.barrier()


def read_config(folder: Path) -> TrainingConfig:
    """Return the settings of the run in a folder. Raises FileError if there is no run."""
    try:
        return TrainingConfig.from_json(json.loads((folder / CONFIG_FILE).read_text()))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{folder} holds no training run ({one_line(error)}): name the folder of one") from error


def is_run(folder: Path) -> bool:
    """Return whether a folder holds a training run, finished or not."""
    return (folder / CONFIG_FILE).is_file()


def restore(trainer: Trainer, folder: Path) -> None:
    """Continue from the checkpoint in a folder.

    Raises FileError if the checkpoint is damaged or has other settings, ArgumentError if the number of processes
    differs from that of the run.
    """
    path = folder / checkpoint_file(trainer.shard.rank)
    values = _read_values(path)
    if values["shards"] != trainer.shard.size:
        raise ArgumentError(
            f"{folder} was trained by {values['shards']} processes, not {trainer.shard.size}: "
            f"start {values['shards']} processes"
        )
    if TrainingConfig.from_json(values["config"]) != trainer.config:
        raise FileError(f"{path} was written with other settings: choose another folder, or restore the settings")
    try:
        with safe_open(path, framework="pt", device=str(trainer.idle_tokens_LF.device)) as file:
            trainer.restore({name: file.get_tensor(name) for name in file.keys()}, values)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FileError(f"{path} is damaged ({one_line(error)}): train again in a new folder") from error
    trainer.history = _read_history(folder / HISTORY_FILE)[: trainer.step]


def has_checkpoint(folder: Path) -> bool:
    """Return whether a folder has a checkpoint to continue from."""
    return (folder / checkpoint_file(0)).is_file()


def checkpoint_file(rank: int) -> str:
    """Return the file name of the checkpoint of one process."""
    return f"checkpoint-{rank}.safetensors"


def _read_history(path: Path) -> list[dict[str, Any]]:
    try:
        records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged ({one_line(error)}): remove it") from error
    if not all(isinstance(record, dict) for record in records):
        raise FileError(f"{path} is damaged (a line is not an object): remove it")
    return records


def _read_values(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["state"])
        if type(values["step"]) is not int or values["step"] < 0:
            raise ValueError(f"step {values['step']!r}")
        return {**values, "shards": values["shards"], "config": values["config"]}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileError(
            f"{path} is not a checkpoint of a training run ({one_line(error)}): name the folder of a run"
        ) from error
