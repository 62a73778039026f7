"""Whether others used the processor while something was timed.

A load average tells of the past minute and counts ourselves. Here the seconds that the cores were
busy are compared with the seconds that this process and its children had of them: the rest is
somebody else's, a neighbour's on a shared machine (steal) included.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import psutil

__all__ = ["BUSY", "LoadGuard", "busy_seconds", "own_seconds"]

BUSY = 0.1
"""Others that had more than this share of the cores make a measurement noisy."""

_WORK = ("user", "nice", "system", "irq", "softirq", "steal")


class LoadGuard:
    """Watches from when it is made; `others` is asked before children end."""

    def __init__(
        self,
        *,
        busy: Callable[[], tuple[float, int] | None] | None = None,
        own: Callable[[], float] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._busy, self._own, self._clock = busy or busy_seconds, own or own_seconds, clock
        self._before = (self._busy(), self._own(), self._clock())

    def others(self) -> float | None:
        """Share of the cores, 0 to 1, that other processes had; None where the system is mute."""
        busy, own, started = self._before
        now, elapsed = self._busy(), self._clock() - started
        if busy is None or now is None or elapsed <= 0:
            return None
        foreign = now[0] - busy[0] - (self._own() - own)
        return min(max(foreign / (elapsed * now[1]), 0.0), 1.0)


def busy_seconds() -> tuple[float, int] | None:
    """Seconds that the cores we may use have worked, for anybody, and how many these are."""
    try:
        every = psutil.cpu_times(percpu=True)
    except (OSError, NotImplementedError, RuntimeError):  # a phone's kernel keeps it to itself
        return None
    free = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(every))
    ours = [every[core] for core in free if core < len(every)]
    if not ours:
        return None
    return sum(getattr(core, kind, 0.0) for core in ours for kind in _WORK), len(ours)


def own_seconds() -> float:
    """Processor seconds of this process and of all below it, the ended ones included."""
    here = psutil.Process()
    total = 0.0
    for process in (here, *here.children(recursive=True)):
        with suppress(psutil.Error):  # it has ended since it was listed
            times = process.cpu_times()
            ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            total += times.user + times.system + ended
    return total
