"""Numbers that describe a list of times, chosen for machines that are not quiet.

An average alone hides a neighbour's noise, so every row has the median, the tail, the minimum and
a mean without the outer tenths. Two rows are compared by the ratio of their medians, with an
interval; that is fair only when their samples were interleaved, as `bench` does.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

__all__ = ["Ratio", "Stats", "drift", "interleaved_ratio", "ratio", "summarise"]

_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What is published of one list of times; all fields but `n` in milliseconds."""

    n: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    trimmed_mean_ms: float
    """Mean without the fastest and the slowest tenth."""

    def to_json(self) -> dict[str, float]:
        """The fields, rounded to a tenth of a microsecond."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times slower the second is than the first, with a 95 % interval."""

    ratio: float
    low: float
    high: float


def summarise(milliseconds: Sequence[float]) -> Stats:
    """Statistics of at least one time. Percentiles interpolate linearly between ranks."""
    if not milliseconds:
        raise ValueError("there are no times to summarise")
    times = np.sort(np.asarray(milliseconds, dtype=np.float64))
    p50, p90, p99 = np.percentile(times, (50, 90, 99))
    cut = len(times) // 10
    return Stats(
        n=len(times),
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        min_ms=float(times[0]),
        trimmed_mean_ms=float(times[cut : len(times) - cut].mean()),
    )


def drift(milliseconds: Sequence[float]) -> float:
    """Median of the last quarter over median of the first: above 1 the machine grew slower.

    With fewer than eight times there are no quarters to speak of, and the answer is 1.
    """
    if len(milliseconds) < 8:
        return 1.0
    quarter = len(milliseconds) // 4
    return float(np.median(milliseconds[-quarter:]) / np.median(milliseconds[:quarter]))


def ratio(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Ratio:
    """Median of `second` over median of `first`, with a percentile bootstrap interval.

    Args:
        first: times of the faster or the reference row, in any unit.
        second: times of the other row, in the same unit.
        seed: of the resampling.
    """
    if not first or not second:
        raise ValueError("a ratio needs times on both sides")
    random = np.random.default_rng(seed)
    below, above = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    resampled = [
        np.median(random.choice(times, (_RESAMPLES, len(times))), axis=1)
        for times in (below, above)
    ]
    low, high = np.percentile(resampled[1] / resampled[0], (2.5, 97.5))
    return Ratio(ratio=float(np.median(above) / np.median(below)), low=float(low), high=float(high))


def interleaved_ratio(
    first: Sequence[float], second: Sequence[float], *, block: int, seed: int = 0
) -> Ratio:
    """`ratio` of times that were taken in turns: rounds are drawn, for both sides the same ones.

    What disturbed a round disturbed both, and times within a round resemble each other; drawing
    single times would take such a round's four times for four independent ones, and give an
    interval that is too narrow.

    Args:
        first: times of the reference, in the order of time.
        second: times of the other, of the same rounds.
        block: times of one side in a round; a last round may be shorter.
        seed: of the resampling.
    """
    count = min(len(first), len(second))
    if not count:
        raise ValueError("a ratio needs times on both sides")
    random = np.random.default_rng(seed)
    sides = [np.asarray(side[:count], dtype=np.float64) for side in (first, second)]
    rounds = np.arange(count) // block
    members = [np.flatnonzero(rounds == number) for number in range(int(rounds[-1]) + 1)]
    ratios = []
    for drawn in random.integers(len(members), size=(_RESAMPLES, len(members))):
        chosen = np.concatenate([members[number] for number in drawn])
        ratios.append(np.median(sides[1][chosen]) / np.median(sides[0][chosen]))
    low, high = np.percentile(ratios, (2.5, 97.5))
    whole = float(np.median(sides[1]) / np.median(sides[0]))
    return Ratio(ratio=whole, low=float(low), high=float(high))
