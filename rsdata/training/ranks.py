"""Several processes that train one network together, as ``torchrun`` starts them; a single process is the usual case."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is, and what it computes on."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def total(self, value: float) -> float:
        """Sum over all processes."""
        if self.size == 1:
            return value
        summed = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(summed)
        return float(summed)

    def from_first(self, value: Any) -> Any:
        """What the first process has, in all."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def gathered(self, value: Any) -> list[Any]:
        """What each process has, in all."""
        if self.size == 1:
            return [value]
        boxes: list[Any] = [None] * self.size
        distributed.all_gather_object(boxes, value)
        return boxes


@contextmanager
def ranks() -> Iterator[Ranks]:
    """The processes that ``torchrun`` started, connected; this one alone without it. Uses a GPU if there is one."""
    gpu = torch.cuda.is_available()
    if not distributed.is_available() or (not distributed.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) == 1):
        yield Ranks(device=torch.device("cuda" if gpu else "cpu"))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    own = not distributed.is_initialized()
    if own:
        distributed.init_process_group("nccl" if gpu else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        if own:
            distributed.destroy_process_group()


def cpu(answers: Any) -> Any:
    """Tensors, or a tuple of them, as float64 on the CPU; in double precision a sigmoid keeps the ranking of confident answers."""
    if isinstance(answers, Tensor):
        return answers.detach().double().cpu()
    return tuple(cpu(each) for each in answers)
