"""From the 8-bit steps of other packages to the ranges that ours cover, exactly or not at all."""

import numpy as np

from blip_edge.quantize.search import affine

__all__ = ["Span", "joined", "span_of"]

Span = tuple[float, float]
"""Smallest and largest value that steps stand for."""
_STEPS = 255


def span_of(scale: float, zero: int, first: int, last: int) -> Span | None:
    """The range of x = scale · (q - zero) with q in [first, last]: `affine` makes the same of it.

    Signed and symmetric steps only count from another number. None: there are not 256 of them, or
    zero is none of them, so that ours would be others.
    """
    if last - first != _STEPS or not first <= zero <= last or not scale > 0:
        return None
    scale = float(np.float32(scale))
    span = scale * (first - zero), scale * (last - zero)
    return span if affine(*span) == (scale, zero - first) else None


def joined(one: Span | None, other: Span | None) -> Span | None:
    """The range of a layer that is run in two places, of its range in each."""
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])
