"""Progress on stderr: bars with the time left in a terminal, a line now and then elsewhere."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar

from blip_edge.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["Listener", "listen"]

T = TypeVar("T")
# A log of a long run should have some lines an hour, not one for each step.
_SECONDS_BETWEEN_LINES = 15.0


class Listener(Progress, Protocol):
    """A progress that shares its terminal."""

    def aside(self) -> AbstractContextManager[None]:
        """Nothing is shown inside, so that another may write to the same terminal."""
        ...


@contextmanager
def listen() -> Iterator[Listener]:
    """A progress for whatever stderr is; a bar that still runs at the end is taken away."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.stop()


class _Bars:
    """One bar for each loop that runs, the inner below the outer."""

    def __init__(self) -> None:
        self._live: RichProgress | None = None
        self._tasks: list[TaskID] = []

    def track(
        self, items: Iterable[T], description: str, *, total: int | None = None
    ) -> Iterator[T]:
        length = _length(items, total)
        live = self._live = self._live or _new_bars()
        task = live.add_task(description, total=length, note="")
        self._tasks.append(task)
        try:
            for done, item in enumerate(items, start=1):
                yield item
                # A total can be a guess; a bar that overshot is simply full.
                live.update(
                    task, completed=done, total=None if length is None else max(length, done)
                )
        finally:
            self._tasks.remove(task)
            if not self._tasks:
                self.stop()

    def note(self, text: str) -> None:
        if self._live is not None and self._tasks:
            self._live.update(self._tasks[-1], note=text)

    def say(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr)

    @contextmanager
    def aside(self) -> Iterator[None]:
        if self._live is None:
            yield
            return
        bars = self._live.live
        bars.transient = True
        bars.stop()
        try:
            yield
        finally:
            bars.transient = False
            bars.start(refresh=True)

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _new_bars() -> "RichProgress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        # Once a bar is full the time that it took stands where the time left stood.
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
    )
    bars.start()
    return bars


class _Lines:
    """For a log file or a pipe: no control characters, few lines."""

    def __init__(self) -> None:
        self._note = ""

    def track(
        self, items: Iterable[T], description: str, *, total: int | None = None
    ) -> Iterator[T]:
        length = _length(items, total)
        self._note = ""
        start = last = monotonic()
        done = 0
        for item in items:
            yield item
            done += 1
            now = monotonic()
            if now - last >= _SECONDS_BETWEEN_LINES and done != length:
                last = now
                self._print(_running(description, done, length, now - start))
        if done:
            self._print(f"{description}: {done} in {_clock(monotonic() - start)}")

    def _print(self, text: str) -> None:
        print(f"{text}, {self._note}" if self._note else text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        self._note = text

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def aside(self) -> AbstractContextManager[None]:
        return nullcontext()


def _running(description: str, done: int, length: int | None, seconds: float) -> str:
    if length is None or done > length:  # a total can be a guess
        return f"{description}: {done}, {_clock(seconds)}"
    left = seconds / done * (length - done)
    return f"{description}: {done} of {length}, {_clock(left)} left"


def _length(items: Iterable[object], total: int | None) -> int | None:
    if total is not None:
        return total
    size = getattr(items, "__len__", None)
    return int(size()) if size is not None else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
