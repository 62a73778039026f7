"""Which ends of a range cost least, of a histogram that is rounded to 255 steps between them.

A cost is asked of many ranges at once. Both costs follow from sums over the bins that share a step,
and running totals give those of any range in a look-up for each step, however many values and bins
there are; so a search is nothing beside the passes that fill the histogram.
"""

# R ranges · K steps · N bins that are not empty

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["Cost", "affine", "divergence", "least", "squared_error"]

_STEPS = 255
# How far the search shrinks an end of the range, and in how many steps.
_LEAST_SHARE, _SHARES = 0.05, 96

Cost = Callable[[Tensor, Tensor, list[tuple[float, float]]], Tensor]
"""Of N ascending centres of bins and their counts: what each of R ranges costs, (R,) float64."""


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


def least(
    centres: Tensor, counts: Tensor, span: tuple[float, float], cost: Cost
) -> tuple[float, float]:
    """The range inside `span` that costs least: its upper end is searched first, then its lower.

    Of equals the widest: nothing is cut off without a gain.
    """
    (low, high), shares = span, np.linspace(1, _LEAST_SHARE, _SHARES).tolist()
    found = cost(centres, counts, [(low, high * share) for share in shares])
    high *= shares[_first_least(found)]
    found = cost(centres, counts, [(low * share, high) for share in shares])
    low *= shares[_first_least(found)]
    return low, high


def squared_error(centres: Tensor, counts: Tensor, ranges: list[tuple[float, float]]) -> Tensor:
    """Σ n (x - s · (q(x) - z))² over all bins: what is cut off costs its distance squared.

    Of the bins of a step of value v it is Σ n x² - 2 v Σ n x + v² Σ n.
    """
    x, n = centres.double(), counts.double()
    edges, values = _steps(x, ranges)
    zeroth, first, second = (_between(n * x**power, edges) for power in (0, 1, 2))
    return (second - 2 * values * first + values**2 * zeroth).sum(1).clamp(min=0)


def divergence(centres: Tensor, counts: Tensor, ranges: list[tuple[float, float]]) -> Tensor:
    """KL(P ‖ Q) of the clipped histogram P and of what 255 steps leave of it, Q.

    P are the counts inside a range, with those outside added to its outermost bins. Q are the
    counts inside alone, each step's spread evenly over its bins that are not empty; so what is cut
    off costs because Q does not know of it, and what is kept costs because the bins of a step
    become one. Source: S. Migacz, "8-bit Inference with TensorRT" (GTC 2017), there for symmetric
    ranges of 128 steps.
    """
    n = counts.double()
    edges, _ = _steps(centres.double(), ranges)
    lows = torch.tensor([[low] for low, _ in ranges], dtype=torch.float64)
    highs = torch.tensor([[high] for _, high in ranges], dtype=torch.float64)
    # Where an end cuts a bin's centre off, nothing may be inside: then the nearest bin is.
    start = torch.searchsorted(centres.double(), lows)
    end = torch.searchsorted(centres.double(), highs, right=True)
    start = start.clamp(max=len(n) - 1)
    end = torch.maximum(end, start + 1)
    edges = edges.clamp(min=start, max=end)
    below = torch.nn.functional.pad(n.cumsum(0), (1, 0))
    p_log_p = _between(n * n.log(), torch.cat([start, end], 1)).squeeze(1)
    first, last = n[start.squeeze(1)], n[end.squeeze(1) - 1]
    under, over = below[start].squeeze(1), below[-1] - below[end].squeeze(1)
    alone = end.squeeze(1) - start.squeeze(1) == 1
    p_log_p += _grown(first, under + alone * over) + ~alone * _grown(last, over)
    inside = _between(n, edges)
    log_q = torch.log(inside.clamp(min=1) / edges.diff(dim=1).clamp(min=1))
    cross = (inside * log_q).sum(1)
    steps = [torch.searchsorted(edges, at, right=True) - 1 for at in (start, end - 1)]
    for at, cut in zip(steps, (under, over), strict=True):
        at = at.clamp(0, log_q.shape[1] - 1)
        cross += cut * log_q.gather(1, at).squeeze(1)
    total = below[-1]
    kept = inside.sum(1)
    # Both are made shares of one: P of all values, Q of those inside.
    return (p_log_p - cross) / total - torch.log(total / kept)


def _steps(x: Tensor, ranges: list[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    """Where the bins of each step begin and the last one's end, (R, K + 1); its value, (R, K)."""
    scales, zeros = zip(*(affine(low, high) for low, high in ranges), strict=True)
    steps = torch.arange(_STEPS + 1, dtype=torch.float64) - torch.tensor(zeros)[:, None]
    scale = torch.tensor(scales, dtype=torch.float64)[:, None]
    inner = torch.searchsorted(x, (steps[:, 1:] - 0.5) * scale)
    return torch.nn.functional.pad(_ended(inner, len(x)), (1, 0)), steps * scale


def _ended(edges: Tensor, end: int) -> Tensor:
    return torch.nn.functional.pad(edges, (0, 1), value=end)


def _between(values: Tensor, edges: Tensor) -> Tensor:
    """(N,) values summed from each edge to the next."""
    return torch.nn.functional.pad(values.cumsum(0), (1, 0))[edges].diff(dim=1)


def _grown(count: Tensor, more: Tensor) -> Tensor:
    """How n log n grows when `more` is added to n."""
    grown = count + more
    return grown * grown.log() - count * count.log()


def _first_least(costs: Tensor) -> int:
    return int(torch.nonzero(costs == costs.min())[0])
