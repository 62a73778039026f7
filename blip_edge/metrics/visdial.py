"""Visual dialogue: where the answer that was given, and answers as good, are among the options.

Das et al., "Visual Dialog", CVPR 2017, https://arxiv.org/abs/1611.08669, and the NDCG of
https://visualdialog.org/challenge/2018. One place a round, from `metrics.ranks`; and where people
judged every option of a round, with k options that anybody found relevant,

    DCG  = sum over the first k places p of relevance / log2(p + 1)
    NDCG = DCG of the scores' order / DCG of the best order

R rounds · C candidates (options)
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blip_edge.metrics.ranks import mean_reciprocal, recall, table

__all__ = ["dialog", "ndcg"]


def dialog(places: ArrayLike) -> dict[str, float]:
    """MRR, R@1, R@5 and R@10 as shares; the mean rank is `ranks.mean_rank`.

    Args:
        places: (R,), of the answer that was given, from 1.

    Raises:
        ValueError: no places.
    """
    return {"MRR": mean_reciprocal(places)} | {f"R@{k}": recall(places, k) for k in (1, 5, 10)}


def ndcg(scores: ArrayLike, relevance: ArrayLike) -> NDArray[np.float64]:
    """(R,): NDCG of each round that was judged, between 0 and 1.

    Of options with the same score the less relevant come first: a tie earns nothing.

    Args:
        scores: (R, C), higher is better.
        relevance: (R, C), at least 0. Where rounds have fewer options than others, scores are
            filled with -inf and relevance with 0.

    Raises:
        ValueError: nothing to score, NaN, shapes that differ, negative relevance, or a round in
            which nothing is relevant.
    """
    given, judged = table(scores), table(relevance).astype(np.float64)
    if given.shape != judged.shape:
        raise ValueError(f"scores are {given.shape}, but relevance is {judged.shape}")
    if (judged < 0).any():
        raise ValueError(f"relevance is at least 0, not {judged.min():g}")
    relevant = np.count_nonzero(judged, axis=1)
    if not relevant.all():
        raise ValueError(f"in round {int(relevant.argmin())} no option is relevant")
    best = -np.sort(-judged, axis=1)
    found = np.take_along_axis(judged, np.lexsort((judged, -given), axis=1), axis=1)
    places = np.arange(1, judged.shape[1] + 1)
    discount = (places <= relevant[:, None]) / np.log2(places + 1)
    shares: NDArray[np.float64] = (found * discount).sum(axis=1) / (best * discount).sum(axis=1)
    return shares
