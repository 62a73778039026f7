"""Which of a run's processes this is, and what they tell each other besides gradients."""

from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

from blip_edge.errors import UsageError

__all__ = ["Device", "begin", "everyone", "first", "mean", "rank", "world"]

T = TypeVar("T")
Device = Literal["auto", "cpu", "cuda", "mps"]


def begin(device: Device = "auto") -> torch.device:
    """Join the other processes, if `torchrun` or `accelerate launch` started any.

    Returns:
        Where this one computes: on `device`, of several of a kind on one of its own; auto is the
        fastest kind there is.

    Raises:
        UsageError: this machine has no such device.
    """
    lacking = {
        "cuda": not torch.cuda.is_available(),
        "mps": not torch.backends.mps.is_available(),
    }
    if lacking.get(device):
        raise UsageError(
            f"--device {device}: torch finds none on this machine; give --device cpu or auto"
        )
    state = PartialState(cpu=device == "cpu")
    if device == "cpu":
        return torch.device("cpu")
    # The state is kept as long as Python runs, and may be that of a run on the processor.
    return torch.device(state.device if world() > 1 else state.default_device)


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
