"""MRR, R@k and NDCG of dialogues, against tables and against sorting by hand."""

import math
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_edge.metrics import dialog, ndcg

EXACT = 1e-12
_ROUND = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.2, 0.6, 1.0])),
    min_size=1,
    max_size=5,
).filter(lambda options: any(relevance for _, relevance in options))


def test_dialog_by_hand() -> None:
    found = dialog([1, 2, 10, 50])
    assert found == pytest.approx(
        {"MRR": (1 + 1 / 2 + 1 / 10 + 1 / 50) / 4, "R@1": 1 / 4, "R@5": 1 / 2, "R@10": 3 / 4},
        abs=EXACT,
    )


def test_ndcg_by_hand() -> None:
    # Two are relevant, so two places count: 0 and 0.5 instead of 1 and 0.5.
    scores, relevance = [[0.9, 0.8, 0.7, 0.1]], [[0.0, 0.5, 1.0, 0.0]]
    expected = (0.5 / math.log2(3)) / (1 / math.log2(2) + 0.5 / math.log2(3))
    assert ndcg(scores, relevance) == pytest.approx([expected], abs=EXACT)


def _gain(order: list[float]) -> float:
    k = sum(relevance > 0 for relevance in order)
    return sum(r / math.log2(place + 1) for place, r in enumerate(order[:k], start=1))


@given(_ROUND)
def test_ndcg_is_the_worst_order_that_the_scores_allow(options: list[tuple[float, float]]) -> None:
    orders = [
        [relevance for _, relevance in order]
        for order in permutations(options)
        if all(one[0] >= other[0] for one, other in pairwise(order))
    ]
    best = _gain(sorted((relevance for _, relevance in options), reverse=True))
    scores, relevance = zip(*options, strict=True)
    found = ndcg([scores], [relevance])[0]
    assert found == pytest.approx(min(map(_gain, orders)) / best, abs=EXACT)
    filled = ndcg([[*scores, -np.inf]], [[*relevance, 0]])[0]
    assert found == pytest.approx(filled, abs=EXACT)


@given(_ROUND)
def test_who_knows_relevance_gets_one(options: list[tuple[float, float]]) -> None:
    relevance = [[relevance for _, relevance in options]]
    assert ndcg(relevance, relevance) == pytest.approx([1], abs=EXACT)


def test_rounds_are_scored_one_by_one() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    relevance = np.array([[1.0, 0.0, 0.0], [1.0, 0.4, 0.0]])
    both = ndcg(scores, relevance)
    assert both.tolist() == [ndcg(scores[[n]], relevance[[n]])[0] for n in (0, 1)]
    assert both[0] == 1


def test_relevance_as_whole_numbers() -> None:
    assert ndcg([[1, 2]], [[0, 1]]).tolist() == [1]


@pytest.mark.parametrize(
    ("scores", "relevance", "complaint"),
    [
        ([[1.0, np.nan]], [[1.0, 0.0]], "NaN"),
        ([[1.0, 2.0]], [[np.nan, 0.0]], "NaN"),
        ([[1.0, 2.0]], [[1.0]], r"scores are \(1, 2\)"),
        ([[1.0, 2.0]], [[1.0, -0.5]], "at least 0"),
        ([[1.0, 2.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 0.0]], "in round 1 no option"),
        ([], [], "shape"),
    ],
)
def test_what_cannot_be_scored(scores: Any, relevance: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ndcg(scores, relevance)
