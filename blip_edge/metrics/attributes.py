"""Open-vocabulary attributes: mean average precision over a list of attributes.

Bravo et al., "Open-vocabulary Attribute Detection", CVPR 2023, https://arxiv.org/abs/2211.12914:
boxes are known, and each attribute ranks the boxes that somebody judged of it. With P_n and R_n the
precision and the recall of all boxes that score at least the n-th highest score,

    AP  = sum over n of (R_n - R_(n-1)) · P_n
    mAP = mean of AP over the attributes that at least one box has

Boxes of one score are taken together, so that their order changes nothing. A random score has the
share of boxes with the attribute as its AP. The benchmark's own program cuts scores to 0 … 1 first,
which ties all that are below 0; here scores are taken as they are.

B boxes · A attributes · R resamples
"""

import math
from collections.abc import Callable, Hashable, Sequence
from statistics import fmean
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blip_edge.metrics.auc import labelled
from blip_edge.metrics.score import by_group

__all__ = [
    "average_precision",
    "average_precisions",
    "drawn_precision",
    "mean_average_precision",
    "precision_by_group",
]

G = TypeVar("G", bound=Hashable)

_UNKNOWN = -1


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """AP of one attribute, between 0 and 1; NaN where no box has it.

    Args:
        scores: (B,), higher where the attribute is likelier.
        labels: (B,), 1 has it, 0 has not, -1 unknown and left out.

    Raises:
        ValueError: lengths that differ, NaN, or other labels.
    """
    given, judged = labelled(scores, labels, (_UNKNOWN, 0, 1))
    known = judged != _UNKNOWN
    right = judged[known] == 1
    if not right.any():
        return math.nan
    _, place = np.unique(-given[known], return_inverse=True)
    found = np.cumsum(np.bincount(place, weights=right))
    precision = found / np.cumsum(np.bincount(place))
    return float((np.diff(found, prepend=0) * precision).sum() / found[-1])


def drawn_precision(
    scores: ArrayLike, labels: ArrayLike
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """AP of one attribute in resamples: (R, B) how often each box was drawn to (R,).

    NaN where no box with the attribute was drawn. Scores and labels are as for `average_precision`.

    Raises:
        ValueError: lengths that differ, NaN, or other labels.
    """
    given, judged = labelled(scores, labels, (_UNKNOWN, 0, 1))
    known = np.flatnonzero(judged != _UNKNOWN)
    order = known[np.argsort(-given[known], kind="stable")]
    right = np.flatnonzero(judged[order] == 1)
    # The last box, and the last that is right, of those that score the same as each right one.
    last = np.searchsorted(-given[order], -given[order][right], side="right") - 1
    found = np.searchsorted(right, last, side="right") - 1

    def precisions(times: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = times[:, order]
        seen, own = np.cumsum(drawn, axis=1)[:, last], drawn[:, right]
        shares = np.zeros_like(own)
        # What was not drawn has no share in the sum, whatever it is divided by.
        np.divide(own * np.cumsum(own, axis=1)[:, found], seen, out=shares, where=seen > 0)
        average = np.full(len(times), math.nan)
        total = own.sum(axis=1)
        np.divide(shares.sum(axis=1), total, out=average, where=total > 0)
        return average

    return precisions


def average_precisions(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """(A,): AP of each attribute; NaN where no box has it.

    Args:
        scores: (B, A).
        labels: (B, A), as for `average_precision`.

    Raises:
        ValueError: shapes that differ or are no tables, NaN, or other labels.
    """
    given, judged = labelled(scores, labels, (_UNKNOWN, 0, 1))
    if given.ndim != 2:
        raise ValueError(f"scores must be a table of boxes and attributes, not {given.shape}")
    return np.array([average_precision(*both) for both in zip(given.T, judged.T, strict=True)])


def mean_average_precision(precisions: NDArray[np.float64]) -> float:
    """mAP, between 0 and 1.

    Args:
        precisions: (A,), from `average_precisions`; those that are NaN are left out.

    Raises:
        ValueError: no attribute that a box has.
    """
    return fmean(_defined(precisions).values())


def precision_by_group(precisions: NDArray[np.float64], groups: Sequence[G]) -> dict[G, float]:
    """mAP of each group: OVAD's head, medium and tail, by how frequent attributes are.

    Args:
        precisions: (A,), from `average_precisions`; those that are NaN are left out, and so is a
            group that has no others.
        groups: the group of each attribute.

    Raises:
        ValueError: another number of groups, or no attribute that a box has.
    """
    if len(groups) != len(precisions):
        raise ValueError(f"{len(precisions)} attributes, but {len(groups)} groups")
    defined = _defined(precisions)
    return by_group(defined, {number: groups[number] for number in defined})


def _defined(precisions: NDArray[np.float64]) -> dict[int, float]:
    found = {n: value for n, value in enumerate(precisions.tolist()) if not math.isnan(value)}
    if not found:
        raise ValueError("there is no attribute that at least one box has")
    return found
