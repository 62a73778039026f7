"""Statistics against sums written out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_edge.benchmarks.stats import drift, interleaved_ratio, ratio, summarise

EXACT = 1e-9  # both sides do the same few float64 operations, in another order

times = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60)


def percentile(values: list[float], share: float) -> float:
    """Linear interpolation between the two ranks around share * (n - 1)."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@given(times)
def test_statistics_equal_brute_force(values: list[float]) -> None:
    stats = summarise(values)
    ordered = sorted(values)
    kept = ordered[len(ordered) // 10 : len(ordered) - len(ordered) // 10]
    assert stats.n == len(values)
    assert stats.p50_ms == pytest.approx(percentile(values, 0.5), rel=EXACT)
    assert stats.p90_ms == pytest.approx(percentile(values, 0.9), rel=EXACT)
    assert stats.p99_ms == pytest.approx(percentile(values, 0.99), rel=EXACT)
    assert stats.min_ms == min(values)
    assert stats.trimmed_mean_ms == pytest.approx(sum(kept) / len(kept), rel=EXACT)


def test_the_trimmed_mean_ignores_one_hiccup_in_ten() -> None:
    assert summarise([5.0] * 9 + [5000.0]).trimmed_mean_ms == 5.0


def test_no_times_are_refused() -> None:
    with pytest.raises(ValueError, match="no times"):
        summarise([])
    with pytest.raises(ValueError, match="both sides"):
        ratio([1.0], [])


def test_drift_compares_the_last_quarter_with_the_first() -> None:
    assert drift([1.0, 1.0, 5.0, 5.0, 5.0, 5.0, 2.0, 2.0]) == 2.0
    assert drift([1.0] * 7) == 1.0


def test_a_ratio_has_an_interval_that_holds_it() -> None:
    slow = [20.0 + index % 5 for index in range(50)]
    fast = [10.0 + index % 3 for index in range(50)]
    found = ratio(fast, slow)
    assert found.ratio == 22.0 / 11.0
    assert 1.0 < found.low <= found.ratio <= found.high < 3.0
    assert ratio(fast, slow) == found  # the resampling is seeded


def test_equal_rows_are_not_told_apart() -> None:
    same = [10.0, 11.0, 12.0, 13.0] * 10
    found = ratio(same, same)
    assert found.low <= 1.0 <= found.high


def test_rounds_that_were_disturbed_together_leave_the_ratio_alone() -> None:
    """A neighbour doubles every other round for both: taken in pairs, that is no doubt."""
    noise = np.repeat(np.tile([1.0, 2.0], 8), 4)
    first, second = list(10 * noise), list(12 * noise)
    paired = interleaved_ratio(first, second, block=4)
    assert paired.ratio == pytest.approx(1.2)
    apart = ratio(first, second)
    assert apart.high - apart.low > paired.high - paired.low == pytest.approx(0.0, abs=1e-9)


def test_a_partner_that_was_cut_short_is_compared_as_far_as_it_got() -> None:
    found = interleaved_ratio([1.0, 1.0, 9.0], [2.0, 2.0], block=2)
    assert (found.low, found.ratio, found.high) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="both sides"):
        interleaved_ratio([], [1.0], block=2)
