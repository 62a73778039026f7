"""A slow average of the weights, which is often better than the last of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["Average"]


class Average:
    """a = decay · a + (1 - decay) · p after every step, from the first weights on."""

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self._parameters, self._decay = [p.detach() for p in parameters], decay
        self.tensors = [parameter.clone() for parameter in self._parameters]

    @torch.no_grad()
    def follow(self) -> None:
        """Move a step towards the weights."""
        torch._foreach_lerp_(self.tensors, self._parameters, 1.0 - self._decay)

    @torch.no_grad()
    def exchange(self) -> None:
        """Give the weights the average's values, and the other way round."""
        for parameter, average in zip(self._parameters, self.tensors, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)

    @contextmanager
    def instead(self) -> Iterator[None]:
        """The weights are the average's inside."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()
