"""Which of several open bundles is the fastest here: the same work for all, in turns."""

# C candidates

import time
from collections.abc import Mapping, Sequence
from statistics import median

from blip_edge.exporters.probes import PROBES, Said
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import Task

__all__ = ["Work", "race"]

_WARM = 2
Work = Sequence[tuple[Task, Asked, Said]]
"""Things to do, with what is said of each: dictated, so that all do as many steps."""


def race(bundles: Mapping[str, EdgeModel], work: Work, *, rounds: int) -> dict[str, float]:
    """The median milliseconds that each of C bundles takes for all of `work`.

    Each round asks every bundle once, and begins with another, so that a machine that grows slower
    or is busy for a while does so for all.
    """
    names = list(bundles)
    if not names:
        return {}
    for name in names:
        for _ in range(_WARM):
            _do(bundles[name], work)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(_do(bundles[name], work))
    return {name: 1000 * median(taken) for name, taken in seconds.items()}


def _do(bundle: EdgeModel, work: Work) -> float:
    started = time.perf_counter()
    for task, asked, said in work:
        PROBES[task].arrays(bundle, asked, said)
    return time.perf_counter() - started
