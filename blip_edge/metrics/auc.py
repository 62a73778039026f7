"""ROC-AUC: how likely a relevant pair scores higher than one that is not.

Hanley, McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC)
curve", Radiology 143, 1982: the area is the statistic of Mann and Whitney. With P pairs that are
relevant and N that are not, and ranks from 1 for the lowest score, the mean rank among equals,

    AUC = (sum of the relevant ones' ranks - P (P + 1) / 2) / (P N)

which is the share of pairs of one of each kind in which the relevant one scores higher, a tie
counting half. R resamples · K pairs that are judged
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["drawn_auc", "labelled", "roc_auc"]


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """The area, between 0 and 1; a half is what chance gives. Papers print 100 times that.

    Args:
        scores: one a pair, higher is more relevant.
        labels: 1 or True for those that are relevant, 0 or False for those that are not.

    Raises:
        ValueError: lengths that differ, NaN, other labels, or all of one kind.
    """
    given, known = labelled(scores, labels, (0, 1))
    relevant = known == 1
    positives = int(relevant.sum())
    negatives = len(relevant) - positives
    if positives == 0 or negatives == 0:
        raise ValueError(f"all labels are {int(positives > 0)}: AUC needs both kinds")
    _, place, equals = np.unique(given, return_inverse=True, return_counts=True)
    middle = np.cumsum(equals) - (equals - 1) / 2
    above = middle[place][relevant].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def drawn_auc(
    scores: ArrayLike, labels: ArrayLike
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The area of resamples, as `Bootstrap.weighted` asks for it: (R, K) how often each was drawn
    to (R, 1), NaN where one of the kinds was not.

    Raises:
        ValueError: as `roc_auc`, but for labels of one kind.
    """
    given, known = labelled(scores, labels, (0, 1))
    relevant, others = given[known == 1], np.flatnonzero(known == 0)
    others = others[np.argsort(given[others], kind="stable")]
    # How many of the others score less than each relevant pair, and how many no more.
    below, upto = (np.searchsorted(given[others], relevant, side) for side in ("left", "right"))

    def areas(times: NDArray[np.float64]) -> NDArray[np.float64]:
        negatives = np.pad(np.cumsum(times[:, others], axis=1), ((0, 0), (1, 0)))
        positives = times[:, known == 1]
        won = (positives * (negatives[:, below] + negatives[:, upto])).sum(axis=1) / 2
        possible = positives.sum(axis=1) * negatives[:, -1]
        found = np.full(len(times), np.nan)
        np.divide(won, possible, out=found, where=possible > 0)
        return found[:, None]

    return areas


def labelled(
    scores: ArrayLike, labels: ArrayLike, known: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Scores and labels of the same shape, with something in them.

    Raises:
        ValueError: they are not, or scores have NaN, or labels are not all among `known`.
    """
    given, said = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if given.shape != said.shape or given.size == 0:
        raise ValueError(
            f"scores of shape {given.shape} and labels of shape {said.shape}: they must be the "
            "same, and not empty"
        )
    if np.isnan(given).any():
        raise ValueError(f"score {int(np.isnan(given).argmax())} is NaN")
    strange = np.setdiff1d(said, known)
    if strange.size:
        allowed = ", ".join(map(str, known))
        raise ValueError(f"labels are {allowed}, not {strange[0]}")
    return given, said.astype(np.int8)
