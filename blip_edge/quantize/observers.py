"""From the values that a layer saw to the range that 8-bit steps should cover.

An observer sees tensors one after the other and keeps a few numbers or a histogram, never the
tensors; `span` is then the range [low, high], of which `search.affine` makes a scale and a zero
point.
"""

from typing import Literal, Protocol

from torch import Tensor

from blip_edge.quantize.extremes import MinMax
from blip_edge.quantize.histogram import Histogram
from blip_edge.quantize.search import Cost, divergence, least, squared_error

__all__ = ["Entropy", "Mse", "Observer", "ObserverName", "Percentile", "observer"]

ObserverName = Literal["min-max", "percentile", "mse", "entropy"]
# 16 bins to a step at full range: finer ones would hold too few values to tell shapes apart.
_COARSER = 4


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


def observer(name: ObserverName, *, percentile: float = 99.99) -> Observer:
    """A fresh observer by its name in the recipe."""
    match name:
        case "min-max":
            return MinMax()
        case "percentile":
            return Percentile(percentile)
        case "mse":
            return Mse()
        case "entropy":
            return Entropy()


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


class _Searched:
    """A range inside that of all values, chosen by what rounding to it does to their histogram."""

    _cost: Cost
    _merged = 1

    def __init__(self) -> None:
        self._histogram = Histogram()

    def see(self, x: Tensor) -> None:
        self._histogram.see(x)

    def span(self) -> tuple[float, float] | None:
        span = self._histogram.extremes.span()
        if span is None:
            return None
        return least(*self._histogram.filled(self._merged), span, self._cost)


class Mse(_Searched):
    """The range with the least squared error: argmin over [low, high] of Σ (x - s · (q(x) - z))².

    What is clipped costs the square of its distance, what is not costs the rounding; outliers are
    given up where that pays.
    """

    _cost = staticmethod(squared_error)


class Entropy(_Searched):
    """The range after which the histogram tells most of what it told before; see `divergence`."""

    _cost = staticmethod(divergence)
    _merged = _COARSER
