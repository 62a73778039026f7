"""From the values that a layer saw to the 8-bit steps that stand for them.

An observer sees tensors one after the other and keeps a few numbers or a histogram, never the
tensors; `span` is then the range [low, high] that the 255 steps should cover, and `affine` makes
a scale and a zero point of it.
"""

from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from blip_edge.errors import ArtifactError

__all__ = ["Histogram", "MinMax", "Mse", "Observer", "Percentile", "affine", "observer"]

_STEPS = 255
# 64 bins to a step at full range: a range read off the histogram is exact to 1/64 of a step.
_BINS = 1 << 14
_FIRST_LIMIT = 2.0**-24
# How far the least-squared-error search shrinks an end of the range, and in how many steps.
_LEAST_SHARE, _SHARES = 0.05, 96


def affine(low: float, high: float) -> tuple[float, int]:
    """Scale s and zero point z of uint8 steps for [low, high]: x ≈ s · (q - z).

    The range is first widened to hold zero, then s = (high - low) / 255 and z = round(-low / s), so
    that zero is a step and any x in the range is at most s / 2 from its own. A range of nothing but
    zero gets scale 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / _STEPS))
    if scale <= float(np.finfo(np.float32).tiny):
        return 1.0, 0
    return scale, min(max(round(-low / scale), 0), _STEPS)


class Observer(Protocol):
    """Something that looks at values and proposes a range."""

    def see(self, x: Tensor) -> None:
        """Take the values of `x`, of any shape, into account.

        Raises:
            ArtifactError: one of them is not a finite number.
        """
        ...

    def span(self) -> tuple[float, float] | None:
        """The range [low, high]; None when nothing was seen."""
        ...


def observer(
    name: Literal["min-max", "percentile", "mse"], *, percentile: float = 99.99
) -> Observer:
    """A fresh observer by its name in the recipe."""
    if name == "min-max":
        return MinMax()
    return Percentile(percentile) if name == "percentile" else Mse()


class MinMax:
    """The range of all values: low = min x, high = max x."""

    def __init__(self) -> None:
        self._span: tuple[float, float] | None = None

    def see(self, x: Tensor) -> None:
        if not x.numel():
            return
        low, high = (float(end) for end in torch.aminmax(x.detach()))
        if not np.isfinite([low, high]).all():
            raise ArtifactError("values are not finite numbers")
        if self._span is not None:
            low, high = min(low, self._span[0]), max(high, self._span[1])
        self._span = low, high

    def span(self) -> tuple[float, float] | None:
        return self._span


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

    def filled(self) -> tuple[Tensor, Tensor]:
        """Centres and counts of the bins that are not empty."""
        index = self.counts.nonzero().flatten()
        return -self.limit + (index + 0.5) * self.width, self.counts[index]

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


class Percentile:
    """The middle p percent of the values: low = Q((1 - p) / 2), high = Q((1 + p) / 2)."""

    def __init__(self, percentile: float = 99.99) -> None:
        self._outside = (1 - percentile / 100) / 2
        self._histogram = Histogram()

    def see(self, x: Tensor) -> None:
        self._histogram.see(x)

    def span(self) -> tuple[float, float] | None:
        if self._histogram.extremes.span() is None or not self._outside:
            return self._histogram.extremes.span()
        return self._histogram.quantile(self._outside), self._histogram.quantile(1 - self._outside)


class Mse:
    """The range with the least squared error: argmin over [low, high] of Σ (x - s · (q(x) - z))².

    What is clipped costs the square of its distance, what is not costs the rounding; outliers are
    given up where that pays. The upper end is searched first, then the lower.
    """

    def __init__(self) -> None:
        self._histogram = Histogram()

    def see(self, x: Tensor) -> None:
        self._histogram.see(x)

    def span(self) -> tuple[float, float] | None:
        span = self._histogram.extremes.span()
        if span is None:
            return None
        centres, counts = self._histogram.filled()
        (low, high), shares = span, np.linspace(1, _LEAST_SHARE, _SHARES)
        # min() keeps the first of equals: nothing is cut off without a gain.
        high = min((high * s for s in shares), key=lambda end: _error(centres, counts, low, end))
        low = min((low * s for s in shares), key=lambda end: _error(centres, counts, end, high))
        return float(low), float(high)


def _error(x: Tensor, counts: Tensor, low: float, high: float) -> float:
    scale, zero = affine(low, high)
    steps = (torch.round(x / scale) + zero).clamp(0, _STEPS)
    return float((counts * (x - scale * (steps - zero)) ** 2).sum())
