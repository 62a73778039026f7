"""Counts of what a layer saw, in bins that grow with it."""

import torch
from torch import Tensor

from blip_edge.quantize.extremes import MinMax

__all__ = ["Histogram"]

# 64 bins to a step at full range: a range read off the histogram is exact to 1/64 of a step.
_BINS = 1 << 14
_FIRST_LIMIT = 2.0**-24


class Histogram:
    """Counts of values in equal bins over [-limit, limit].

    The limit doubles, and pairs of bins merge, whenever a value lies outside, so that the values
    need not be known beforehand and their order changes nothing.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(_BINS, dtype=torch.float64)
        self.limit = _FIRST_LIMIT
        self.extremes = MinMax()

    @property
    def width(self) -> float:
        """Width of a bin."""
        return 2 * self.limit / _BINS

    def see(self, x: Tensor) -> None:
        """Count the values of `x`."""
        self.extremes.see(x)
        low, high = self.extremes.span() or (0.0, 0.0)
        while self.limit < max(-low, high):
            inner = self.counts.view(-1, 2).sum(1)
            self.counts = torch.nn.functional.pad(inner, (_BINS // 4, _BINS // 4))
            self.limit *= 2
        values = x.detach().float().flatten()
        self.counts += torch.histc(values, _BINS, -self.limit, self.limit).double().cpu()

    def filled(self, merged: int = 1) -> tuple[Tensor, Tensor]:
        """Centres and counts of the bins that are not empty, `merged` adjacent ones as one."""
        counts = self.counts.view(-1, merged).sum(1)
        index = counts.nonzero().flatten()
        return -self.limit + (index + 0.5) * self.width * merged, counts[index]

    def quantile(self, share: float) -> float:
        """The value that `share` of all values lie under, to a bin's width."""
        low, high = self.extremes.span() or (0.0, 0.0)
        below = self.counts.cumsum(0)
        target = share * float(below[-1])
        index = int(torch.searchsorted(below, target, right=True))
        if index >= _BINS:
            return high
        inside = (target - float(below[index] - self.counts[index])) / float(self.counts[index])
        return min(max(-self.limit + (index + inside) * self.width, low), high)
