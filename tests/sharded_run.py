"""Train a few steps in one of several processes: `sharded_run.py RANK SIZE RENDEZVOUS OUT CONFIG`.

It runs in a separate process, which a process group needs. Rank 0 writes the whole dictionary.
"""

import json
import sys

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


def main(rank: int, size: int, rendezvous: str, out: str, config: TrainingConfig) -> None:
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)
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


if __name__ == "__main__":
    main(
        int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], TrainingConfig.from_json(json.loads(sys.argv[5]))
    )
