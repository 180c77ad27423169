"""One dictionary over several processes: each holds a range of every layer's features."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from cotrace.common.errors import CotraceError
from cotrace.kernels.active import Active

from .estimators import sum_over_ranks

PATIENCE = timedelta(days=1)  # until the first process has read the text, or the model has written it


def device_of_process(device: str) -> str:
    """What `auto` and `cuda` mean in one of several processes that torchrun started: a GPU for each."""
    local = os.environ.get("LOCAL_RANK")
    if local is None or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    torch.cuda.set_device(int(local))
    return f"cuda:{local}"


@dataclass(frozen=True)
class Shard:
    """This process's share of the features; the whole of them by default.

    Every process sees the same tokens, computes the same loss, and holds the same copy of what is
    not divided: skips, output biases, units.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls, device: str = "cpu") -> "Shard":
        """This process's among those that torchrun started, which meet here; the whole where there are none."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether it is so in any process."""
        return here if self.size == 1 else bool(self.total(torch.tensor(float(here), device=device)) > 0)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def part(self, width: int) -> range:
        """Features of this process. Raises ValueError where they cannot be divided evenly."""
        if width % self.size:
            raise CotraceError(f"{width} features cannot be divided among {self.size} processes; choose another width")
        n = width // self.size
        return range(self.rank * n, (self.rank + 1) * n)

    def summed(self, partial: Tensor) -> Tensor:
        """The sum over processes, with a gradient."""
        return sum_over_ranks(partial) if self.size > 1 else partial

    def largest(self, found: Active, n_kept: int) -> Active:
        """Of every process's largest entries, those that are among the largest of all."""
        if self.size == 1:
            return found
        z_n = self._gathered(found.pre_activation_n)
        if len(z_n) <= n_kept:
            return found
        return _where(found, found.pre_activation_n >= z_n.kthvalue(len(z_n) - n_kept + 1).values)

    def largest_of_position(self, found: Active, k: int, n_positions: int) -> Active:
        """Of every process's k largest entries of each position, the k largest of all."""
        if self.size == 1:
            return found
        count_P = torch.bincount(found.position_n, minlength=n_positions)
        rank_n = (
            torch.arange(len(found.position_n), device=count_P.device) - (count_P.cumsum(0) - count_P)[found.position_n]
        )
        z_Pk = found.pre_activation_n.new_zeros(n_positions, k)
        z_Pk[found.position_n, rank_n] = found.pre_activation_n
        everyone = [torch.empty_like(z_Pk) for _ in range(self.size)]
        dist.all_gather(everyone, z_Pk)
        kth_P = torch.cat(everyone, 1).topk(k, dim=1).values[:, -1]
        return _where(found, found.pre_activation_n >= kth_P[found.position_n])

    def least(self, value: Tensor) -> Tensor:
        """The smallest over processes."""
        if self.size > 1:
            dist.all_reduce(value, dist.ReduceOp.MIN)
        return value

    def total(self, value: Tensor) -> Tensor:
        """The sum over processes, of numbers to report."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def whole(self, part: Tensor, dim: int = 0) -> Tensor:
        """All processes' parts side by side."""
        if self.size == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts, dim)

    def _gathered(self, values_n: Tensor) -> Tensor:
        """All processes' values, however many each has."""
        count = torch.tensor([len(values_n)], device=values_n.device)
        counts = self.whole(count).tolist()
        padded = values_n.new_zeros(max(counts))
        padded[: len(values_n)] = values_n
        whole = self.whole(padded).view(self.size, -1)
        return torch.cat([row[:n] for row, n in zip(whole, counts, strict=True)])


WHOLE = Shard()


def _where(found: Active, keep_n: Tensor) -> Active:
    return Active(*(column[keep_n] for column in found))
