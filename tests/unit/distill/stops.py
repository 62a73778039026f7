"""Somebody who interrupts a run."""

from typing import Any

__all__ = ["Stops"]


class Stops:
    """A listener that interrupts the part of a run whose description begins with `what`."""

    def __init__(self, what: str, after: int) -> None:
        self._what, self._after = what, after

    def track(self, items: Any, description: str, *, total: int | None = None) -> Any:
        for number, item in enumerate(items):
            if description.startswith(self._what) and number == self._after:
                raise KeyboardInterrupt
            yield item

    def note(self, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        pass
