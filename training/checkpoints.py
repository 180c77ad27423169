"""A run's folder: its state in one file that is there whole or not at all, and its history."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cotrace.attribution.provenance import versions

from .config import Config

if TYPE_CHECKING:
    from .trainer import Trainer

HISTORY = "history.jsonl"


def save(trainer: "Trainer", folder: Path) -> None:
    """Write the state beside the old one, then let it take its place. The history goes first: it may be ahead."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors, values = trainer.state()
    if trainer.shard.rank == 0:
        lines = "".join(json.dumps(record) + "\n" for record in trainer.history)
        _replace(folder / HISTORY, lambda path: path.write_text(lines))
    metadata = {"state": json.dumps({**values, "shards": trainer.shard.size, "versions": versions()})}
    tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    _replace(folder / file_name(trainer.shard.rank), lambda path: save_file(tensors, path, metadata))


def read_config(folder: Path) -> Config:
    """Settings of the run in a folder. Raises ValueError if there is none."""
    return Config.from_json(_values(folder / file_name(0))["config"])


def restore(trainer: "Trainer", folder: Path) -> None:
    """Continue from the folder's checkpoint. Raises ValueError if it is damaged or of another number of processes."""
    path = folder / file_name(trainer.shard.rank)
    values = _values(path)
    if values["shards"] != trainer.shard.size:
        raise ValueError(
            f"{folder} was trained by {values['shards']} processes and here are {trainer.shard.size}; start as many"
        )
    with safe_open(path, framework="pt", device=str(trainer.idle_LF.device)) as file:
        trainer.restore({name: file.get_tensor(name) for name in file.keys()}, values)
    history = folder / HISTORY
    records = [json.loads(line) for line in history.read_text().splitlines()] if history.is_file() else []
    trainer.history = records[: trainer.step]


def exists(folder: Path) -> bool:
    """Whether there is a run to continue."""
    return (folder / file_name(0)).is_file()


def file_name(rank: int) -> str:
    """Of the state of one process."""
    return f"checkpoint-{rank}.safetensors"


def _values(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["state"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no checkpoint of a training run ({error}); name the folder of one") from error


def _replace(path: Path, write) -> None:
    scratch = path.with_name(f".{path.name}.unfinished")
    write(scratch)
    scratch.replace(path)
