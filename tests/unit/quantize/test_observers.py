"""Ranges and steps against numbers computed by hand and by numpy."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blip_edge.errors import ArtifactError
from blip_edge.quantize.extremes import MinMax
from blip_edge.quantize.histogram import Histogram
from blip_edge.quantize.observers import Entropy, Mse, Observer, Percentile, observer
from blip_edge.quantize.search import affine, divergence, squared_error

ENDS = st.floats(-1e6, 1e6, allow_subnormal=False)


def mean_error(x: Tensor, span: tuple[float, float] | None) -> float:
    assert span is not None
    scale, zero = affine(*span)
    steps = (torch.round(x / scale) + zero).clamp(0, 255)
    return float((x - scale * (steps - zero)).square().mean())


def test_steps_by_hand() -> None:
    assert affine(-1.0, 254.0) == (1.0, 1)
    assert affine(-2.55, 0.0) == (float(np.float32(0.01)), 255)
    # A range on one side of zero is widened to it.
    assert affine(5.0, 25.5) == (float(np.float32(0.1)), 0)
    assert affine(-25.5, -5.0) == (float(np.float32(0.1)), 255)
    assert affine(0.0, 0.0) == (1.0, 0) and affine(0.0, 1e-44) == (1.0, 0)


@given(low=ENDS, high=ENDS, share=st.floats(0, 1))
def test_any_value_in_the_range_is_half_a_step_from_its_own(
    low: float, high: float, share: float
) -> None:
    low, high = min(low, high), max(low, high)
    scale, zero = affine(low, high)
    assert scale == float(np.float32(scale)) and 0 <= zero <= 255
    x = low + share * (high - low)
    step = min(max(round(x / scale) + zero, 0), 255)
    # float32's scale ends the range up to 1e-7 of it early.
    assert abs(x - scale * (step - zero)) <= scale / 2 + 1e-6 * max(abs(low), abs(high))


def test_min_max_over_several_batches() -> None:
    watch = MinMax()
    assert watch.span() is None
    watch.see(torch.zeros(0, 3))
    assert watch.span() is None
    watch.see(torch.tensor([[1.0, 2.0]]))
    watch.see(torch.tensor([-3.0, 0.5]))
    assert watch.span() == (-3.0, 2.0)


@pytest.mark.parametrize("watch", [MinMax(), Percentile(), Mse(), Entropy()])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(watch: Observer, value: float) -> None:
    with pytest.raises(ArtifactError, match="not finite"):
        watch.see(torch.tensor([0.0, value]))


@pytest.mark.parametrize("percent", [90.0, 99.0, 99.9])
def test_percentile_leaves_out_what_it_should(percent: float) -> None:
    values = torch.randn(40_000, generator=torch.Generator().manual_seed(0)) * 2 + 1
    watch = Percentile(percent)
    for part in torch.split(values, 7_000):
        watch.see(part)
    low, high = watch.span() or (0.0, 0.0)
    outside = 40_000 * (1 - percent / 100) / 2
    # A bin near the ends of the 90 % holds four or five values.
    assert int((values < low).sum()) == pytest.approx(outside, abs=5)
    assert int((values > high).sum()) == pytest.approx(outside, abs=5)


def test_all_percent_is_min_max() -> None:
    watch = Percentile(100)
    watch.see(torch.tensor([-1.25, 0.0, 7.5]))
    assert watch.span() == (-1.25, 7.5)


def test_one_value_alone_is_its_own_range() -> None:
    for watch in (MinMax(), Percentile(99), Mse(), Entropy()):
        watch.see(torch.full((10,), 3.0))
        assert watch.span() == pytest.approx((3.0, 3.0))


def test_the_histogram_grows_without_losing_a_count_or_the_order_mattering() -> None:
    small, large = torch.linspace(-0.01, 0.01, 1001), torch.tensor([50.0, -3.0])
    one, other = Histogram(), Histogram()
    for histogram, parts in ((one, (small, large)), (other, (large, small))):
        for part in parts:
            histogram.see(part)
    assert one.limit == other.limit == 64
    assert float(one.counts.sum()) == float(other.counts.sum()) == 1003
    assert one.quantile(0.0) == other.quantile(0.0) == -3.0
    assert one.quantile(1.0) == other.quantile(1.0) == 50.0
    assert abs(one.quantile(0.5)) <= one.width


def test_least_squares_gives_up_an_outlier_and_keeps_an_even_spread() -> None:
    # One value at r costs r² / count when clipped, and r² / (12 · 255²) when kept: it has to be
    # rarer than one in 780,000 before giving it up pays.
    values = torch.randn(3_000_000, generator=torch.Generator().manual_seed(0))
    values[0] = 40.0
    watch, everything = Mse(), MinMax()
    watch.see(values)
    everything.see(values)
    span = watch.span()
    assert span is not None and 3 < span[1] < 12
    assert mean_error(values, span) < mean_error(values, everything.span()) / 2
    even = torch.linspace(-1, 3, 10_000)
    watch = Mse()
    watch.see(even)
    low, high = watch.span() or (0.0, 0.0)
    assert [low, high] == pytest.approx([-1.0, 3.0], rel=0.05)


def test_least_squares_never_does_worse_than_min_max_on_gelu() -> None:
    values = torch.nn.functional.gelu(torch.randn(50_000, generator=torch.Generator()) * 2)
    watch, everything = Mse(), MinMax()
    watch.see(values)
    everything.see(values)
    assert mean_error(values, watch.span()) <= mean_error(values, everything.span()) * 1.01


RANGES = [(-1.0, 1.0), (-0.3, 0.9), (-4.0, 3.0), (0.0, 0.02), (-2.0, 0.0), (-0.01, 2.5)]
SHAPES: list[Callable[[Tensor], Tensor]] = [lambda x: x, torch.nn.functional.gelu, lambda x: x**3]


def counted(shape: Callable[[Tensor], Tensor], merged: int = 1) -> tuple[Tensor, Tensor]:
    histogram = Histogram()
    histogram.see(shape(torch.randn(20_000, generator=torch.Generator().manual_seed(1))))
    return histogram.filled(merged)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_error_of_many_ranges_is_that_of_each_rounded_bin_by_bin(
    shape: Callable[[Tensor], Tensor],
) -> None:
    centres, counts = counted(shape)
    for (low, high), got in zip(RANGES, squared_error(centres, counts, RANGES), strict=True):
        scale, zero = affine(low, high)
        steps = (torch.round(centres / scale) + zero).clamp(0, 255)
        want = float((counts * (centres - scale * (steps - zero)) ** 2).sum())
        assert float(got) == pytest.approx(want, rel=1e-5)


def divergence_by_hand(centres: Tensor, counts: Tensor, low: float, high: float) -> float:
    """P and Q as lists, bin by bin."""
    inside = [i for i, x in enumerate(centres.tolist()) if low <= x <= high]
    n = counts.tolist()
    p = {i: n[i] for i in inside}
    p[inside[0]] += sum(n[: inside[0]])
    p[inside[-1]] += sum(n[inside[-1] + 1 :])
    scale, zero = affine(low, high)
    steps: dict[int, list[int]] = {}
    for i in inside:
        step = min(max(math.ceil(centres[i].item() / scale - 0.5) + zero, 0), 255)
        steps.setdefault(step, []).append(i)
    q = {i: sum(n[j] for j in group) / len(group) for group in steps.values() for i in group}
    all_p, all_q = sum(p.values()), sum(q.values())
    parts = (p[i] / all_p * math.log(p[i] / all_p / (q[i] / all_q)) for i in inside)
    return float(sum(parts))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_divergence_of_many_ranges_is_that_of_each_by_hand(
    shape: Callable[[Tensor], Tensor],
) -> None:
    centres, counts = counted(shape, merged=4)
    ranges = [each for each in RANGES if ((centres >= each[0]) & (centres <= each[1])).any()]
    found = divergence(centres, counts, ranges).tolist()
    for (low, high), got in zip(ranges, found, strict=True):
        want = divergence_by_hand(centres, counts, low, high)
        assert got == pytest.approx(want, abs=1e-5) and got > -1e-9


def test_entropy_gives_up_a_long_tail_and_keeps_an_even_spread() -> None:
    values = torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    tail, even = Entropy(), Entropy()
    tail.see(torch.cat([values, torch.tensor([300.0])]))
    even.see(torch.linspace(-1, 3, 10_000))
    low, high = tail.span() or (0.0, 0.0)
    assert -6 < low < -3 and 3 < high < 100
    assert even.span() == pytest.approx((-1.0, 3.0), rel=0.05)


@given(scale=st.sampled_from([2.0**-10, 1.0, 2.0**30]), seed=st.integers(0, 20))
@settings(deadline=None, max_examples=20)
def test_ranges_follow_the_values_unit(scale: float, seed: int) -> None:
    """Nothing in the search is in absolute numbers."""
    values = torch.randn(2_000, generator=torch.Generator().manual_seed(seed)) ** 3
    for name in ("percentile", "mse", "entropy"):
        one, other = observer(name), observer(name)
        one.see(values)
        other.see(values * scale)
        want = [end * scale for end in one.span() or ()]
        assert list(other.span() or ()) == pytest.approx(want, rel=1e-6)


def test_tens_of_values_have_a_range_by_every_observer() -> None:
    for name in ("min-max", "percentile", "mse", "entropy"):
        watch = observer(name)
        assert watch.span() is None
        watch.see(torch.tensor([-1.0, 0.0, 0.0, 5.0]))
        low, high = watch.span() or (9.0, 9.0)
        assert -1 <= low <= 0 <= high <= 5
