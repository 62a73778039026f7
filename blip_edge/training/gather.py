"""What all processes of a run hold, where a loss looks beyond its own batch.

A contrast is the better the more it compares with, and is the same for N processes as for one with
N batches only if each sees what all of them hold. Without a process group, and in a group of one,
everything here is the identity and costs nothing.
"""

# W processes · B rows of this process · R rows of all

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

__all__ = ["first_row", "gather", "gather_with_gradient"]

Shapes = list[tuple[int, ...]]


def gather(x: Tensor) -> Tensor:
    """(B, …) rows of each process to the (R, …) rows of all, in the order of ranks.

    Batches may differ in size. So may the other dimensions, texts in length: they are filled with
    zeros at the end. Every process must call it, equally often. No gradient flows back.
    """
    return x if _alone() else _gathered(x.detach(), _shapes(x))


def gather_with_gradient(x: Tensor) -> Tensor:
    """As `gather`; a row's gradient is the sum of what every process's loss asks of it.

    Averaged over processes, as gradients are in data-parallel training, that is the gradient of
    the mean of the losses.
    """
    return x if _alone() else _Gather.apply(x)


def first_row(x: Tensor) -> int:
    """Where the rows of this process begin in `gather(x)`."""
    return 0 if _alone() else _first(_shapes(x))


def _alone() -> bool:
    return not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1


def _first(shapes: Shapes) -> int:
    return sum(shape[0] for shape in shapes[: dist.get_rank()])


def _shapes(x: Tensor) -> Shapes:
    mine = torch.tensor(x.shape, device=x.device)
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, mine)
    return [tuple(shape) for shape in torch.stack(everyone).tolist()]


def _gathered(x: Tensor, shapes: Shapes) -> Tensor:
    # Collectives want equal shapes: all are filled up to the largest, and rows are cut again.
    mine = _filled(x, [max(sizes) for sizes in zip(*shapes, strict=True)])
    everyone = [torch.empty_like(mine) for _ in shapes]
    dist.all_gather(everyone, mine)
    return torch.cat([rows[: shape[0]] for rows, shape in zip(everyone, shapes, strict=True)])


def _filled(x: Tensor, shape: Sequence[int]) -> Tensor:
    if tuple(x.shape) == tuple(shape):
        return x.contiguous()
    filled = x.new_zeros(tuple(shape))
    filled[tuple(slice(size) for size in x.shape)] = x
    return filled


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        shapes = _shapes(x)
        ctx.first, ctx.shape = _first(shapes), x.shape
        return _gathered(x, shapes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # A copy: autograd may hand the same tensor to somebody else.
        everyone = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(everyone)
        rows, *others = ctx.shape
        mine = slice(ctx.first, ctx.first + rows)
        return everyone[(mine, *(slice(size) for size in others))]
