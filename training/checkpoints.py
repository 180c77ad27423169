"""A run's folder: its state in one file that is there whole or not at all, and its history."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cotrace.common.errors import CotraceError
from cotrace.common.files import atomic_write
from cotrace.common.versions import package_versions

from .config import Config

if TYPE_CHECKING:
    from .trainer import Trainer

HISTORY, CONFIG = "history.jsonl", "run.json"


def begin_run(folder: Path, config: Config) -> None:
    """Make a folder that of a run."""
    with atomic_write(folder / CONFIG) as temporary:
        temporary.write_text(str(config) + "\n")


def save(trainers: Sequence["Trainer"], folders: Sequence[Path]) -> None:
    """Write states beside the old ones; when all processes have, let them take their places.

    The history goes first: it may be ahead.
    """
    with ExitStack() as all_or_none:
        for trainer, folder in zip(trainers, folders, strict=True):
            tensors, values = trainer.state()
            if trainer.shard.rank == 0:
                with atomic_write(folder / HISTORY) as temporary:
                    temporary.write_text("".join(json.dumps(record) + "\n" for record in trainer.history))
            metadata = {"state": json.dumps({**values, "shards": trainer.shard.size, "versions": package_versions()})}
            tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
            for abandoned in folder.glob(f".{file_name(trainer.shard.rank)}.*.part"):  # by a process that was killed
                abandoned.unlink()
            temporary = all_or_none.enter_context(atomic_write(folder / file_name(trainer.shard.rank)))
            save_file(tensors, temporary, metadata)
        trainers[0].shard.wait()


def read_config(folder: Path) -> Config:
    """Settings of the run in a folder. Raises ValueError if there is none."""
    try:
        return Config.from_json(json.loads((folder / CONFIG).read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise CotraceError(f"{folder} holds no training run ({error}); name the folder of one") from error


def is_run(folder: Path) -> bool:
    """Whether the folder is that of a run, begun or done."""
    return (folder / CONFIG).is_file()


def restore(trainer: "Trainer", folder: Path) -> None:
    """Continue from the folder's checkpoint. Raises ValueError if it is damaged or of another number of processes."""
    path = folder / file_name(trainer.shard.rank)
    values = _values(path)
    if values["shards"] != trainer.shard.size:
        raise CotraceError(
            f"{folder} was trained by {values['shards']} processes and here are {trainer.shard.size}; start as many"
        )
    if Config.from_json(values["config"]) != trainer.config:
        raise CotraceError(f"{path} was written with other settings; choose another folder, or restore them")
    with safe_open(path, framework="pt", device=str(trainer.idle_LF.device)) as file:
        trainer.restore({name: file.get_tensor(name) for name in file.keys()}, values)
    history = folder / HISTORY
    records = [json.loads(line) for line in history.read_text().splitlines()] if history.is_file() else []
    trainer.history = records[: trainer.step]


def has_state(folder: Path) -> bool:
    """Whether there is a state to continue from."""
    return (folder / file_name(0)).is_file()


def file_name(rank: int) -> str:
    """Of the state of one process."""
    return f"checkpoint-{rank}.safetensors"


def _values(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["state"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CotraceError(f"{path} is no checkpoint of a training run ({error}); name the folder of one") from error
