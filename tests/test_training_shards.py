"""Features divided over processes: the result is that of one process."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import tiny
import torch
from helpers import cli, sharded_run
from helpers.processes import Fork
from helpers.training import write_tokens
from safetensors.torch import load_file

import cotrace
from cotrace.training import TrainingConfig
from cotrace.training.shards import Shard

SETTINGS = {
    "batchtopk": {},
    "topk": {"activation": "topk"},
    "jumprelu": {"activation": "jumprelu", "bandwidth": 0.2, "matryoshka": (10, 13)},
}


def learned(folder: Path, size: int, config: TrainingConfig) -> dict[str, torch.Tensor]:
    out = folder / f"{size}.safetensors"
    finish(Fork(sharded_run.main, rank, size, folder / f"meet-{size}", out, config) for rank in range(size))
    return load_file(out)


def finish(runs: Iterable[Fork]) -> None:
    for done in [run.finish(timeout=240) for run in [*runs]]:
        assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("activation", SETTINGS)
def test_two_processes_learn_what_one_learns(activation, tmp_path):
    config = TrainingConfig(width=24, target_l0=3, batch_tokens=32, dead_after_tokens=60, **SETTINGS[activation])
    one, two = (learned(tmp_path, size, config) for size in (1, 2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=2e-3, atol=2e-4, msg=lambda text, n=name: f"{n}: {text}")


def run_in_group(rank: int, rendezvous: Path, *arguments: str) -> None:
    """Run a command as one of two processes, as torchrun would."""
    sharded_run.join_group(rank, 2, rendezvous)
    cli.main(*arguments)


def test_torchrun_trains_into_one_set(model_folder, tmp_path):
    """Two processes in one run's folder write files as one process does; also when resumed."""
    config = TrainingConfig(width=24, target_l0=3, tokens=68, batch_tokens=17, context=9, model=str(model_folder))
    write_tokens(tmp_path / "run", config)
    flags = ["--width", "24", "--target-l0", "3", "--tokens", "68", "--batch-tokens", "17", "--context", "9"]
    command = ["train", "--out", tmp_path / "run", "--model", model_folder, "--learning-rate", "0.001", *flags]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cotrace"]
    whole = [str(part) for part in (*start, *command, "--device", "cpu")]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    resume = ["train", "--out", str(tmp_path / "run"), "--resume", "--device", "cpu"]
    finish(Fork(run_in_group, rank, tmp_path / "meet", *resume) for rank in range(2))
    model = cotrace.load(model_folder, tmp_path / "run/clt/width_24_l0_small_affine", device="cpu")
    assert len(model.active_features(tiny.prompt())) > 0


def test_features_that_cannot_be_divided_are_refused():
    with pytest.raises(ValueError, match="25 features cannot be divided among 2 processes"):
        Shard(0, 2).feature_range(25)
