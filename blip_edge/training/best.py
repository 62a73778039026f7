"""The weights that did best so far by the task's own measure."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Best", "named_tensors"]


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, a shared one once."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach() for name, tensor in tensors}


class _Found(NamedTuple):
    value: float
    step: int
    tensors: dict[str, Tensor]


class Best:
    """Copies of the best weights, in the CPU's memory; of equal values the first stays."""

    def __init__(self) -> None:
        self.found: _Found | None = None

    def consider(self, value: float, step: int, model: nn.Module) -> None:
        """Keep the weights that `model` has after `step` steps, if none before were as good."""
        if self.found is not None and value <= self.found.value:
            return
        tensors = named_tensors(model).items()
        copies = {name: tensor.to("cpu", copy=True) for name, tensor in tensors}
        self.found = _Found(value, step, copies)

    def keep(self, value: float, step: int, tensors: dict[str, Tensor]) -> None:
        """Go on from what an interrupted run had found."""
        self.found = _Found(value, step, tensors)

    @torch.no_grad()
    def bring_back(self, model: nn.Module) -> None:
        """Give `model` the best weights, if there are any."""
        if self.found is not None:
            for name, tensor in named_tensors(model).items():
                tensor.copy_(self.found.tensors[name])
