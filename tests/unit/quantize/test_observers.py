"""Ranges and steps against numbers computed by hand and by numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from blip_edge.errors import ArtifactError
from blip_edge.quantize.observers import Histogram, MinMax, Mse, Observer, Percentile, affine

ENDS = st.floats(-1e6, 1e6, allow_subnormal=False)


def squared_error(x: Tensor, span: tuple[float, float] | None) -> float:
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


@pytest.mark.parametrize("watch", [MinMax(), Percentile(), Mse()])
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
    for watch in (MinMax(), Percentile(99), Mse()):
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
    assert squared_error(values, span) < squared_error(values, everything.span()) / 2
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
    assert squared_error(values, watch.span()) <= squared_error(values, everything.span()) * 1.01
