"""One dictionary over several processes: each process trains a range of every layer's features."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from cotrace.common.errors import ArgumentError
from cotrace.kernels.active import Active

from .estimators import sum_over_ranks

# The other processes wait while the first one reads the text or the model generates it.
PROCESS_GROUP_TIMEOUT = timedelta(days=1)


def device_of_process(device: str) -> str:
    """Return the device of this process: under torchrun, `auto` and `cuda` become one GPU for each process."""
    local_rank = os.environ.get("LOCAL_RANK")
    if local_rank is None or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    torch.cuda.set_device(int(local_rank))
    return f"cuda:{local_rank}"


@dataclass(frozen=True)
class Shard:
    """This process's share of the features; by default all of them.

    Every process sees the same tokens, computes the same loss, and has the same copy of everything that is not divided:
    skips, output biases and the normalization.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls, device: str = "cpu") -> "Shard":
        """Return the shard of this process, and initialize the process group if torchrun started several."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
            backend = "nccl" if device.startswith("cuda") else "gloo"
            dist.init_process_group(backend, timeout=PROCESS_GROUP_TIMEOUT)
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether the flag is set in any process."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def feature_range(self, width: int) -> range:
        """Return the feature ids of this process. Raises ArgumentError if they cannot be divided evenly."""
        if width % self.size:
            raise ArgumentError(f"{width} features cannot be divided among {self.size} processes: choose another width")
        n = width // self.size
        return range(self.rank * n, (self.rank + 1) * n)

    def sum_with_gradient(self, partial: Tensor) -> Tensor:
        """Return the sum over processes, with a gradient."""
        return sum_over_ranks(partial) if self.size > 1 else partial

    def topk_of_batch(self, active: Active, k: int) -> Active:
        """Return those of this process's entries that are among the k largest of all processes."""
        if self.size == 1:
            return active
        z_n = self._gather_ragged(active.pre_activation_n)
        if len(z_n) <= k:
            return active
        return _select(active, active.pre_activation_n >= z_n.kthvalue(len(z_n) - k + 1).values)

    def topk_per_position(self, active: Active, k: int, n_positions: int) -> Active:
        """Return those of this process's entries that are among the k largest of all processes at their position."""
        if self.size == 1:
            return active
        count_P = torch.bincount(active.position_n, minlength=n_positions)
        start_P = count_P.cumsum(0) - count_P
        rank_n = torch.arange(len(active.position_n), device=count_P.device) - start_P[active.position_n]
        z_Pk = active.pre_activation_n.new_zeros(n_positions, k)
        z_Pk[active.position_n, rank_n] = active.pre_activation_n
        kth_P = self.gather(z_Pk, dim=1).topk(k, dim=1).values[:, -1]
        return _select(active, active.pre_activation_n >= kth_P[active.position_n])

    def min(self, value: Tensor) -> Tensor:
        """Return the minimum over processes."""
        if self.size > 1:
            dist.all_reduce(value, dist.ReduceOp.MIN)
        return value

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over processes, without a gradient."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def gather(self, part: Tensor, dim: int = 0) -> Tensor:
        """Return the parts of all processes, concatenated along a dimension."""
        if self.size == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts, dim)

    def _gather_ragged(self, values_n: Tensor) -> Tensor:
        """Return the values of all processes, which may have different numbers of them."""
        count = torch.tensor([len(values_n)], device=values_n.device)
        counts = self.gather(count).tolist()
        padded = values_n.new_zeros(max(counts))
        padded[: len(values_n)] = values_n
        rows = self.gather(padded).view(self.size, -1)
        return torch.cat([row[:n] for row, n in zip(rows, counts, strict=True)])


SINGLE_PROCESS = Shard()


def _select(active: Active, keep_n: Tensor) -> Active:
    return Active(*(column[keep_n] for column in active))
