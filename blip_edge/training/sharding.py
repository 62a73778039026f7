"""Of several processes each keeps a share of weights, gradients and AdamW's state.

torch's fully_shard (FSDP2; Zhao et al., "PyTorch FSDP", arXiv 2304.11277), each layer of the image
tower by itself and all the rest at once, because encoder and decoder share layers. What has no
share: momentum encoders, which no gradient reaches, and the temperature, which is one number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from blip_edge.models.vit import VisionLayer
from blip_edge.training import processes
from blip_edge.training.best import named_tensors

__all__ = ["agree", "full", "gathered", "like", "sharded"]

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T", bound=nn.Module)


def sharded(model: M, objective: T, device: torch.device) -> tuple[M, T]:
    """Copies of both on `device`, of whose trained weights this process has its share.

    The originals stay ordinary modules, to be evaluated and written; see `gathered`.
    """
    model, objective = deepcopy((model, objective))
    objective.to(device)
    mesh = init_device_mesh(device.type, (processes.world(),))
    stay = {p for p in objective.parameters() if p.ndim == 0 or not p.requires_grad}
    # Momentum encoders follow all weights in the forward pass, which must still be whole by then.
    again = all(p.requires_grad for p in objective.parameters())
    for layer in model.modules():
        if isinstance(layer, VisionLayer):
            fully_shard(layer, mesh=mesh, reshard_after_forward=again, ignored_params=stay)
    fully_shard(objective, mesh=mesh, reshard_after_forward=False, ignored_params=stay)
    return model, objective


@contextmanager
def gathered(model: nn.Module, whole: nn.Module) -> Iterator[None]:
    """Inside, `whole` has the weights of `model`, which is a sharded copy of it, on its device.

    Every process must enter. Nothing happens where both are one.
    """
    if model is whole:
        yield
        return
    shares = named_tensors(model)
    with torch.no_grad():
        for name, tensor in named_tensors(whole).items():
            tensor.copy_(full(shares[name]))
    whole.to(next(iter(shares.values())).device).train(model.training)
    try:
        yield
    finally:
        whole.cpu()


def agree(parameters: list[Tensor]) -> None:
    """Average the gradients of those that are not sharded, as fully_shard does of the others."""
    for parameter in parameters:
        if parameter.grad is not None and not isinstance(parameter, DTensor):
            dist.all_reduce(parameter.grad)
            parameter.grad /= processes.world()


def full(tensor: Tensor) -> Tensor:
    """All of a tensor of which this process may hold a share; every process must call it."""
    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, tensor: Tensor) -> Tensor:
    """This process's share of `value`, which all have, if it has one of `tensor`."""
    if not isinstance(tensor, DTensor) or value.ndim == 0:
        return value
    mesh, placements = tensor.device_mesh, tensor.placements
    return distribute_tensor(value.to(tensor.device), mesh, placements, src_data_rank=None)
