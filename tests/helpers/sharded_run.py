"""Train a few steps in one of several processes: a process group needs a process for each rank."""

from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from cotrace.training import TrainingConfig, export
from cotrace.training.activations import MLPActivations
from cotrace.training.shards import Shard
from cotrace.training.trainer import Trainer

L, D, P = 3, 10, 32


def batch(seed: int, n_tokens: int = P) -> MLPActivations:
    generator = torch.Generator().manual_seed(seed)
    return MLPActivations(*(torch.randn(L, n_tokens, D, generator=generator) for _ in range(2)))


def join_group(rank: int, size: int, rendezvous: Path) -> None:
    """Wait for the other processes, which meet at a file."""
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)


def main(rank: int, size: int, rendezvous: Path, out: Path, config: TrainingConfig) -> None:
    """Run one of several processes; rank 0 writes the whole dictionary."""
    torch.set_num_threads(1)
    if size > 1:
        join_group(rank, size, rendezvous)
    run = Trainer(config, L, D, torch.device("cpu"), Shard.current())
    run.initialize(batch(0, 200))
    history = [run.train_step(*batch(seed)) for seed in range(1, 9)]
    tensors = {
        f"{name}.{layer}": tensor.contiguous()
        for layer, tensors in enumerate(export.layer_tensors(run))
        for name, tensor in tensors._asdict().items()
        if tensor is not None
    }
    if rank == 0:
        tensors["history"] = torch.tensor([[record["fvu"], record["l0"], record["dead"]] for record in history])
        save_file(tensors, out)
    if size > 1:
        dist.destroy_process_group()
