"""The place that a right candidate takes among all that were scored; the best place is 1.

    rank = 1 + wrong candidates that score no less than the right one

A tie counts against whoever scored: giving everything the same score is the last place, not the
first, and the order in which candidates are listed changes nothing.

    places = ranks(scores, truth)      # (Q, C), (Q,) -> (Q,)
    print(recall(places, 5), median_rank(places))

Q queries · C candidates
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Indices",
    "Ranks",
    "indices",
    "mean_rank",
    "mean_reciprocal",
    "median_rank",
    "ranks",
    "recall",
    "table",
]

Ranks = NDArray[np.intp]
Indices = NDArray[np.intp]


def ranks(scores: ArrayLike, truth: ArrayLike) -> Ranks:
    """(Q,): the place of candidate `truth[q]` among the scores of row q.

    Args:
        scores: (Q, C), higher is better. Where queries have fewer candidates than others, -inf
            fills the row.
        truth: (Q,), the right candidate of each query.

    Raises:
        ValueError: nothing to rank, NaN, shapes that do not fit, or a candidate that is not there.
    """
    given = table(scores)
    right = indices(truth, len(given), given.shape[1])
    own = given[np.arange(len(given)), right]
    no_less: Ranks = np.count_nonzero(given >= own[:, None], axis=1)
    return no_less  # the right one is among them


def recall(places: ArrayLike, k: int) -> float:
    """R@k: the share of places that are among the first k.

    Raises:
        ValueError: no places, or k is not at least 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    return float(np.mean(_places(places) <= k))


def mean_reciprocal(places: ArrayLike) -> float:
    """MRR: the mean of 1 / place."""
    return float(np.mean(1 / _places(places)))


def mean_rank(places: ArrayLike) -> float:
    """The mean place, from 1; it is no share, so it is printed as it is."""
    return float(np.mean(_places(places)))


def median_rank(places: ArrayLike) -> float:
    """MdR: the median place, from 1; it is no share, so it is printed as it is."""
    return float(np.median(_places(places)))


def table(scores: ArrayLike) -> NDArray[Any]:
    """Scores as (Q, C), not copied if they are an array.

    Raises:
        ValueError: not a table, nothing in it, or NaN.
    """
    given = np.asarray(scores)
    if given.ndim != 2 or given.size == 0:
        raise ValueError(f"scores must be a table with something in it, not of shape {given.shape}")
    if np.isnan(given).any():
        row, column = np.argwhere(np.isnan(given))[0]
        raise ValueError(f"the score in row {row}, column {column} is NaN")
    return given


def indices(numbers: ArrayLike, length: int, limit: int) -> Indices:
    """Whole numbers from 0 to `limit` - 1, `length` of them.

    Raises:
        ValueError: another shape, no whole numbers, or one outside.
    """
    given = np.asarray(numbers)
    if given.shape != (length,):
        raise ValueError(f"{length} numbers are needed, not an array of shape {given.shape}")
    if given.dtype.kind not in "iu":
        raise ValueError(f"whole numbers are needed, not {given.dtype}")
    outside = np.flatnonzero((given < 0) | (given >= limit))
    if outside.size:
        raise ValueError(f"{given[outside[0]]} (at {outside[0]}) is not from 0 to {limit - 1}")
    return given.astype(np.intp)


def _places(places: ArrayLike) -> Ranks:
    given = np.asarray(places)
    if given.ndim != 1 or given.size == 0:
        raise ValueError(f"places must be a list with something in it, not of shape {given.shape}")
    if not (given >= 1).all():
        raise ValueError(f"places begin with 1, not {given.min()}")
    return given
