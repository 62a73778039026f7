"""How far a figure would move on another set of the same size: the bootstrap's percentile interval.

Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. A resample draws as many
items as there are, with replacement; the interval reaches from the (1 - level) / 2 quantile of the
resamples' figures to the (1 + level) / 2 quantile.

    ci = Bootstrap(seed=0)
    ci.mean(list(score.per_item.values()))            # accuracy, ROUGE-L, CIDEr, MRR, R@k
    ci.mean(right, clusters=images)                   # several questions an image
    ci.sums(counts, lambda sums: bleu_of(sums)[:, 3]) # what is decided by sums over the items
    ci.each(hits, {"R@1": first, "R@5": second})      # several such figures of the same resamples
    ci.weighted(drawn_auc(scores, labels), len(labels), clusters=images)  # what sums do not decide
    ci.figure(lambda drawn: roc_auc(s[drawn], y[drawn]), len(s), strata=y)  # anything else, slowly

CIDEr's own weights stay those of the whole set, as is usual: its interval says how the pictures
differ, not how the weights would.

N items · R resamples · S statistics of an item · M figures
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Bootstrap", "Interval"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_AT_A_TIME = 1 << 21
"""Numbers drawn at a time: 16 MB of them."""


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, in the metric's own unit."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals are drawn; the same settings and figures give the same interval."""

    resamples: int = 2000
    """2,000 are enough for the second digit of a 95 % interval's width."""
    level: float = 0.95
    """Between 0 and 1."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, not {self.resamples}")
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1, not {self.level}")

    def mean(self, values: ArrayLike, *, clusters: ArrayLike | None = None) -> Interval:
        """Of the mean of `values` (N,).

        Args:
            values: one an item.
            clusters: (N,), which items were drawn together: the dialogue of a round, the image of a
                question. Whole clusters are drawn then, because items of one are alike and their
                number would promise too much.

        Raises:
            ValueError: no values, NaN, or another number of clusters.
        """
        given = _numbers(values, 1)
        counted = np.stack([given, np.ones_like(given)], axis=1)
        return self.each(counted, {"mean": _ratio}, clusters=clusters)["mean"]

    def sums(self, statistics: ArrayLike, metric: Callable[[Floats], ArrayLike]) -> Interval:
        """Of a metric of sums over the items, such as BLEU or a mean of several recalls.

        Args:
            statistics: (N, S), what is summed.
            metric: sums (R, S) to figures (R,).

        Raises:
            ValueError: no statistics, NaN, or a metric that gives NaN.
        """
        return self.each(statistics, {"metric": metric})["metric"]

    def each(
        self,
        statistics: ArrayLike,
        metrics: Mapping[str, Callable[[Floats], ArrayLike]],
        *,
        clusters: ArrayLike | None = None,
    ) -> dict[str, Interval]:
        """Of several metrics of sums over the items, by name; all see the same resamples.

        Args:
            statistics: (N, S), what is summed.
            metrics: each takes sums (R, S) to figures (R,).
            clusters: as for `mean`.

        Raises:
            ValueError: no statistics, NaN, another number of clusters, or a metric that gives NaN.
        """
        given = _numbers(statistics, 2)
        drawn = given if clusters is None else _added(given, clusters)
        sums = np.concatenate([times @ drawn for times in self._times(len(drawn))])
        figures = {name: np.asarray(metric(sums), np.float64) for name, metric in metrics.items()}
        return {name: self._interval(found) for name, found in figures.items()}

    def weighted(
        self,
        metric: Callable[[Floats], ArrayLike],
        items: int,
        *,
        clusters: ArrayLike | None = None,
    ) -> list[Interval]:
        """Of M figures that depend on all items at once, such as areas under curves.

        Such figures are off in resamples: an item that is drawn twice stands beside itself, and a
        curve of few items rises. So the interval is moved by the mean difference from the figure of
        the set, though not below 0. A resample in which a figure is not defined (NaN) is left out.

        Args:
            metric: how often each item was drawn (some of R, N) to figures (some of R, M).
            items: how many there are.
            clusters: as for `mean`.

        Raises:
            ValueError: no items, another number of clusters, or a figure of the set that is NaN.
        """
        if items < 1:
            raise ValueError("nothing to draw from")
        number = np.arange(items) if clusters is None else _numbered(clusters, items)
        whole = np.asarray(metric(np.ones((1, items))), dtype=np.float64)[0]
        if np.isnan(whole).any():
            raise ValueError("the metric is NaN for the set")
        figures = [
            np.asarray(metric(times[:, number]), dtype=np.float64)
            for times in self._times(int(number.max()) + 1, wide=items)
        ]
        drawn = (figure[~np.isnan(figure)] for figure in np.concatenate(figures).T)
        return [
            self._between(np.maximum(figure - figure.mean() + own, 0))
            for figure, own in zip(drawn, whole, strict=True)
        ]

    def figure(
        self,
        metric: Callable[[Indices], float],
        items: int,
        *,
        strata: ArrayLike | None = None,
    ) -> Interval:
        """Of anything that can be worked out for a choice of items; slow, as it is called R times.

        Args:
            metric: the figure of the items that are drawn, by their numbers from 0; some occur
                twice.
            items: how many there are.
            strata: (N,), kinds of items of which each keeps its number: the labels of ROC-AUC,
                which is undefined without both.

        Raises:
            ValueError: no items, another number of strata, or a metric that gives NaN.
        """
        if items < 1:
            raise ValueError("nothing to draw from")
        kinds = np.zeros(items) if strata is None else np.asarray(strata)
        if kinds.shape != (items,):
            raise ValueError(f"{items} items, but strata of shape {kinds.shape}")
        parts = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
        random = np.random.default_rng(self.seed)
        drawn = (
            np.concatenate([part[random.integers(len(part), size=len(part))] for part in parts])
            for _ in range(self.resamples)
        )
        return self._interval(np.array([metric(numbers) for numbers in drawn], dtype=np.float64))

    def _times(self, items: int, *, wide: int = 1) -> Iterator[Floats]:
        """(some of R, N): how often each item is drawn; fewer rows where they become `wide`."""
        random = np.random.default_rng(self.seed)
        rows = max(1, _AT_A_TIME // max(items, wide))
        for first in range(0, self.resamples, rows):
            size = min(rows, self.resamples - first)
            drawn = random.integers(items, size=(size, items))
            drawn += np.arange(size)[:, None] * items
            counts = np.bincount(drawn.ravel(), minlength=size * items)
            yield counts.reshape(size, items).astype(np.float64)

    def _interval(self, figures: Floats) -> Interval:
        if figures.shape != (self.resamples,):
            raise ValueError(f"{self.resamples} resamples gave figures of shape {figures.shape}")
        if np.isnan(figures).any():
            raise ValueError("the metric is NaN for a resample")
        return self._between(figures)

    def _between(self, figures: Floats) -> Interval:
        low, high = np.quantile(figures, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Interval(float(low), float(high))


def _numbers(values: ArrayLike, dimensions: int) -> Floats:
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != dimensions or given.size == 0:
        raise ValueError(f"there is nothing to draw from in an array of shape {given.shape}")
    if np.isnan(given).any():
        raise ValueError("a value is NaN")
    return given


def _added(statistics: Floats, clusters: ArrayLike) -> Floats:
    """(clusters, S)."""
    number = _numbered(clusters, len(statistics))
    return np.stack([np.bincount(number, weights=column) for column in statistics.T], axis=1)


def _numbered(clusters: ArrayLike, items: int) -> Indices:
    """(N,): the number of each item's cluster, from 0."""
    names = np.asarray(clusters)
    if names.shape != (items,):
        raise ValueError(f"{items} values, but clusters of shape {names.shape}")
    number: Indices = np.unique(names, return_inverse=True)[1]
    return number


def _ratio(sums: Floats) -> Floats:
    ratio: Floats = sums[:, 0] / sums[:, 1]
    return ratio
