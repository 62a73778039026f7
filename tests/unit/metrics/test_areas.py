"""ROC-AUC and average precision, against counting pairs and thresholds one by one."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_edge.metrics import (
    average_precisions,
    mean_average_precision,
    precision_by_group,
    roc_auc,
)
from blip_edge.metrics.attributes import average_precision

EXACT = 1e-12
NAN = float("nan")

Pairs = list[tuple[float, int]]
_SCORES = st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0])
_PAIRS = st.lists(st.tuples(_SCORES, st.sampled_from([0, 1])), min_size=2, max_size=12).filter(
    lambda pairs: {label for _, label in pairs} == {0, 1}
)
_BOXES = st.lists(st.tuples(_SCORES, st.sampled_from([-1, 0, 1])), min_size=1, max_size=12)


def _columns(pairs: Pairs) -> tuple[list[float], list[int]]:
    return [score for score, _ in pairs], [label for _, label in pairs]


# ROC-AUC ---------------------------------------------------------------------------------------


def test_auc_by_hand() -> None:
    # Of 2 · 3 comparisons the relevant win 0.8 > all three, 0.4 > 0.1; 0.4 = 0.4 is half a win.
    assert roc_auc([0.8, 0.4, 0.1, 0.4, 0.6], [1, 1, 0, 0, 0]) == pytest.approx(4.5 / 6, abs=EXACT)


@given(_PAIRS)
def test_auc_is_the_share_of_comparisons_won(pairs: Pairs) -> None:
    wins = [
        float(one > other) + (one == other) / 2
        for one, relevant in pairs
        for other, label in pairs
        if relevant and not label
    ]
    assert roc_auc(*_columns(pairs)) == pytest.approx(sum(wins) / len(wins), abs=EXACT)


@given(_PAIRS)
def test_auc_of_turned_scores_is_what_is_left(pairs: Pairs) -> None:
    scores, labels = _columns(pairs)
    area = roc_auc(scores, labels)
    assert roc_auc([-score for score in scores], labels) == pytest.approx(1 - area, abs=EXACT)
    assert roc_auc(scores, [1 - label for label in labels]) == pytest.approx(1 - area, abs=EXACT)
    assert roc_auc([math.exp(score) for score in scores], labels) == pytest.approx(area, abs=EXACT)
    assert roc_auc(scores[::-1], labels[::-1]) == pytest.approx(area, abs=EXACT)
    assert roc_auc([0] * len(scores), labels) == 0.5
    assert roc_auc(labels, np.array(labels, dtype=bool)) == 1


@pytest.mark.parametrize(
    ("scores", "labels", "complaint"),
    [
        ([], [], "not empty"),
        ([0.1, 0.2], [1], "must be the same"),
        ([0.1, NAN], [1, 0], "score 1 is NaN"),
        ([0.1, 0.2], [1, 2], "labels are 0, 1, not 2"),
        ([0.1, 0.2], [1, -1], "labels are 0, 1, not -1"),
        ([0.1, 0.2], [1, 1], "all labels are 1"),
        ([0.1, 0.2], [0, 0], "all labels are 0"),
    ],
)
def test_auc_of_what_cannot_be_scored(scores: Any, labels: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        roc_auc(scores, labels)


# Average precision -----------------------------------------------------------------------------


def test_average_precision_by_hand() -> None:
    # Found at the first place (1/1) and, together with a wrong one, by the fourth (2/4).
    scores, labels = [0.9, 0.5, 0.7, 0.5, 0.8, 0.1], [1, 1, 0, 0, -1, 0]
    assert average_precision(scores, labels) == pytest.approx((1 / 1 + 2 / 4) / 2, abs=EXACT)


def _plain(boxes: Pairs) -> float:
    known = [(score, label) for score, label in boxes if label != -1]
    has = sum(label for _, label in known)
    total, before = 0.0, 0.0
    for threshold in sorted({score for score, _ in known}, reverse=True):
        found = [label for score, label in known if score >= threshold]
        total += (sum(found) / has - before) * sum(found) / len(found)
        before = sum(found) / has
    return total


@given(_BOXES)
def test_average_precision_is_its_definition(boxes: Pairs) -> None:
    scores, labels = _columns(boxes)
    found = average_precision(scores, labels)
    if 1 not in labels:
        assert math.isnan(found)
        return
    assert found == pytest.approx(_plain(boxes), abs=EXACT)
    assert average_precision(scores[::-1], labels[::-1]) == pytest.approx(found, abs=EXACT)
    assert average_precision(labels, labels) == 1
    known = [label for label in labels if label != -1]
    chance = average_precision([0] * len(labels), labels)
    assert chance == pytest.approx(sum(known) / len(known), abs=EXACT)


def test_attributes_by_hand() -> None:
    labels = np.array([[1, 0, -1, 1], [0, 1, -1, 0], [-1, 1, 0, 0]])
    scores = np.array([[0.9, 0.8, 0.5, 0.1], [0.1, 0.6, 0.5, 0.2], [0.95, 0.7, 0.5, 0.3]])
    precisions = average_precisions(scores, labels)
    expected = [1, (1 / 2 + 2 / 3) / 2, NAN, 1 / 3]
    assert precisions == pytest.approx(expected, abs=EXACT, nan_ok=True)
    assert mean_average_precision(precisions) == pytest.approx((1 + 7 / 12 + 1 / 3) / 3, abs=EXACT)
    groups = ["head", "tail", "medium", "head"]
    assert precision_by_group(precisions, groups) == pytest.approx({"head": 2 / 3, "tail": 7 / 12})


@pytest.mark.parametrize(
    ("metric", "scores", "labels", "complaint"),
    [
        (average_precision, [0.1, NAN], [1, 0], "NaN"),
        (average_precision, [0.1], [2], "labels are -1, 0, 1, not 2"),
        (average_precisions, [[0.1]], [[1, 0]], "must be the same"),
        (average_precisions, [0.1], [1], "must be a table"),
        (average_precisions, [[]], [[]], "not empty"),
        (precision_by_group, np.array([0.5, 0.5]), ["head"], "2 attributes, but 1 groups"),
        (precision_by_group, np.array([NAN]), ["head"], "no attribute"),
    ],
)
def test_attributes_that_cannot_be_scored(
    metric: Callable[[Any, Any], Any], scores: Any, labels: Any, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        metric(scores, labels)


def test_no_attribute_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no attribute"):
        mean_average_precision(np.array([NAN, NAN]))
