"""Areas under curves of resamples, against the areas of what was drawn, written out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_edge.metrics import Bootstrap, drawn_auc, drawn_precision, roc_auc
from blip_edge.metrics.attributes import average_precision

CLOSE = 1e-9

# Few different scores, so that many tie.
items = st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 1)), min_size=1, max_size=9)
seeds = st.integers(0, 99)


def drawn(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which items are drawn in three resamples, and how often each is."""
    chosen = np.random.default_rng(seed).integers(number, size=(3, number))
    return chosen, np.stack([np.bincount(row, minlength=number) for row in chosen]).astype(float)


@given(items, seeds)
def test_auc_of_what_was_drawn(given: list[tuple[int, int]], seed: int) -> None:
    scores, labels = np.array([score for score, _ in given]), np.array([y > 0 for _, y in given])
    chosen, times = drawn(len(given), seed)
    for row, found in zip(chosen, drawn_auc(scores, labels)(times)[:, 0], strict=True):
        if len(set(labels[row])) == 1:
            assert math.isnan(found)
        else:
            assert found == pytest.approx(roc_auc(scores[row], labels[row]), abs=CLOSE)


@given(items, seeds)
def test_precision_of_what_was_drawn(given: list[tuple[int, int]], seed: int) -> None:
    scores, labels = (np.array(column) for column in zip(*given, strict=True))
    chosen, times = drawn(len(given), seed)
    for row, found in zip(chosen, drawn_precision(scores, labels)(times), strict=True):
        expected = average_precision(scores[row], labels[row])
        assert found == pytest.approx(expected, abs=CLOSE, nan_ok=True)


def test_a_mean_of_areas_lies_in_its_interval_though_resamples_are_higher() -> None:
    random = np.random.default_rng(3)
    scores, labels = random.random((40, 60)), random.random((40, 60)) < 0.08
    areas = [drawn_precision(*both) for both in zip(scores, labels, strict=True)]
    whole = [average_precision(*both) for both in zip(scores, labels, strict=True)]

    def mean(times: np.ndarray) -> list[list[float]]:
        return [[one] for one in np.nanmean([area(times) for area in areas], axis=0)]

    (found,) = Bootstrap(resamples=500).weighted(mean, 60)
    assert (found.low + found.high) / 2 == pytest.approx(float(np.nanmean(whole)), abs=0.01)
    assert found.low < float(np.nanmean(whole)) < found.high


def test_the_interval_of_an_area_is_as_wide_as_theory_says() -> None:
    scores = np.random.default_rng(3).exponential(size=400)
    labels = np.arange(400) % 4 == 0
    scores[labels] *= 3
    (found,) = Bootstrap().weighted(drawn_auc(scores, labels), 400)
    middle = roc_auc(scores, labels)
    # Hanley and McNeil's standard error, of 100 and 300.
    one, other = middle / (2 - middle), 2 * middle**2 / (1 + middle)
    spread = middle * (1 - middle) + 99 * (one - middle**2) + 299 * (other - middle**2)
    error = math.sqrt(spread / (100 * 300))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_items_of_a_cluster_are_drawn_together() -> None:
    scores, labels, twice = np.arange(12) % 5, np.arange(12) % 3 == 0, np.repeat(np.arange(12), 2)
    once = Bootstrap().weighted(drawn_auc(scores, labels), 12)
    again = Bootstrap().weighted(drawn_auc(scores[twice], labels[twice]), 24, clusters=twice)
    assert again[0].low == pytest.approx(once[0].low) and again[0].high == pytest.approx(
        once[0].high
    )


def test_what_is_not_defined_of_the_set_has_no_interval() -> None:
    with pytest.raises(ValueError, match="NaN for the set"):
        Bootstrap().weighted(drawn_auc([1, 2], [1, 1]), 2)
    with pytest.raises(ValueError, match="nothing to draw"):
        Bootstrap().weighted(drawn_auc([1, 2], [1, 0]), 0)


def test_several_figures_see_the_same_resamples() -> None:
    values = np.random.default_rng(0).random((30, 2))
    mean = {"both": lambda sums: sums.sum(axis=1) / 60, "one": lambda sums: sums[:, 0] / 30}
    found = Bootstrap(seed=4).each(values, mean)
    assert found["one"] == Bootstrap(seed=4).sums(values, mean["one"])
    assert found["both"] == Bootstrap(seed=4).sums(values, mean["both"])
