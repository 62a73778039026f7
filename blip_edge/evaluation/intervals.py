"""Which figures of a set move how far when other items are drawn.

A task says what is summed over the items and which figures the sums give; `intervals` draws. Drawn
is what a data set is a sample of: pictures with all their captions, questions, pairs or boxes,
sentences with all their pairs of pictures, clips with all their questions, dialogs with all their
rounds.
"""

# N items · S statistics of an item · R resamples

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blip_edge.metrics import Bootstrap, Interval

__all__ = ["Figures", "intervals", "means"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """Figures that sums over the items decide."""

    statistics: Floats
    """(N, S), what is summed."""
    of_sums: Mapping[str, Callable[[Floats], ArrayLike]]
    """By the metric's name: sums (R, S) to figures (R,) as they are printed."""
    clusters: Sequence[str | int] | None = None
    """(N,), which items are drawn together."""


def means(
    values: Mapping[str, ArrayLike], *, clusters: Sequence[str | int] | None = None
) -> Figures:
    """Figures that are the mean of a value of each item, by the metric's name: (N,) each."""
    columns = [np.asarray(value, dtype=np.float64) for value in values.values()]
    return Figures(
        np.stack([*columns, np.ones_like(columns[0])], axis=1),
        {name: share(column, -1) for column, name in enumerate(values)},
        clusters,
    )


def share(part: int, whole: int) -> Callable[[Floats], Floats]:
    """One sum over another."""

    def ratio(sums: Floats) -> Floats:
        found: Floats = sums[:, part] / sums[:, whole]
        return found

    return ratio


def intervals(ci: Bootstrap, *figures: Figures) -> dict[str, Interval]:
    """The intervals of all figures, by the metric's name."""
    found: dict[str, Interval] = {}
    for some in figures:
        found |= ci.each(some.statistics, some.of_sums, clusters=some.clusters)
    return found
