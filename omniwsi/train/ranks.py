"""Several processes that teach one network, as `torchrun` starts them: each learns its part of every batch.

    torchrun --nproc-per-node 4 -m omniwsi train patches -o training

Lessons depend on step and place alone, so nothing but gradients travels. They are weighed by what each process was told and
summed: the same step as one process makes of the whole batch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True, slots=True)
class Ranks:
    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: str) -> Ranks:
        """From the environment that torchrun sets; alone without it."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(distributed.get_rank(), count)

    def device(self, asked: str) -> str:
        """Each process its own GPU."""
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if self.count > 1 and asked == "cuda" else asked

    @property
    def leads(self) -> bool:
        """The one that writes and talks."""
        return self.rank == 0

    def sum(self, value: float, device: str) -> float:
        """Over all processes."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=device)
        distributed.all_reduce(total)
        return total.item()

    def sum_gradients(self, model: nn.Module) -> None:
        """In one message. What nobody was taught keeps no gradient, as in one process: a network of another tissue, say."""
        if self.count == 1:
            return
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        taught = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([taught, *(gradient.flatten() for gradient in own)])
        distributed.all_reduce(flat)
        taught, *summed = flat.split([len(parameters), *(p.numel() for p in parameters)])
        for parameter, count, gradient in zip(parameters, taught.tolist(), summed, strict=True):
            parameter.grad = gradient.view_as(parameter).clone() if count else None
