"""Which of a run's processes this is, and what they tell each other besides gradients."""

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

__all__ = ["begin", "everyone", "first", "mean", "rank", "world"]

T = TypeVar("T")


def begin() -> None:
    """Join the other processes, if `torchrun` or `accelerate launch` started any."""
    PartialState()


def world() -> int:
    """How many processes there are; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0 on."""
    return dist.get_rank() if world() > 1 else 0


def everyone(mine: T) -> list[T]:
    """What each process holds, in the order of ranks; every process must call it."""
    if world() == 1:
        return [mine]
    theirs: list[Any] = [None] * world()
    dist.all_gather_object(theirs, mine)
    return theirs


def first(mine: T) -> T:
    """What the first process holds; every process must call it."""
    return everyone(mine)[0]


def mean(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each loss as the mean over processes; every process must call it."""
    if world() == 1:
        return losses
    values = torch.stack([loss.detach().float() for loss in losses.values()])
    dist.all_reduce(values)
    return dict(zip(losses, values / world(), strict=True))
