"""The least and the greatest of what a layer saw."""

import numpy as np
import torch
from torch import Tensor

from blip_edge.errors import ArtifactError

__all__ = ["MinMax"]


class MinMax:
    """The range of all values: low = min x, high = max x."""

    def __init__(self) -> None:
        self._span: tuple[float, float] | None = None

    def see(self, x: Tensor) -> None:
        """Take the values of `x`, of any shape, into account.

        Raises:
            ArtifactError: one of them is not a finite number.
        """
        if not x.numel():
            return
        low, high = (float(end) for end in torch.aminmax(x.detach()))
        if not np.isfinite([low, high]).all():
            raise ArtifactError("values are not finite numbers")
        if self._span is not None:
            low, high = min(low, self._span[0]), max(high, self._span[1])
        self._span = low, high

    def span(self) -> tuple[float, float] | None:
        """The range [low, high]; None when nothing was seen."""
        return self._span
