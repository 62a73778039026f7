"""How a stage tells what it is doing, without knowing who listens.

A stage takes `progress: Progress = SILENT` and wraps its long loops in `track`; the command line
passes an implementation that draws bars on stderr, tests and scripts pass nothing.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

__all__ = ["SILENT", "Progress"]

T = TypeVar("T")


class Progress(Protocol):
    """Somebody who wants to know how far a stage has come."""

    def track(
        self, items: Iterable[T], description: str, *, total: int | None = None
    ) -> Iterator[T]:
        """Yield `items` unchanged, and show how many of `total` have passed."""
        ...

    def note(self, text: str) -> None:
        """Show a few words beside the running bar, such as the current loss."""
        ...

    def say(self, text: str) -> None:
        """Show one line that stays."""
        ...


class _Silent:
    def track(
        self, items: Iterable[T], description: str, *, total: int | None = None
    ) -> Iterator[T]:
        yield from items

    def note(self, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        pass


SILENT: Progress = _Silent()
