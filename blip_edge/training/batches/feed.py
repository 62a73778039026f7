"""What a run can be read on from, in its middle."""

from collections.abc import Generator
from typing import Any, Protocol, runtime_checkable

__all__ = ["Feed"]


@runtime_checkable
class Feed(Protocol):
    """Batches without end, that are found again by how many came before."""

    @property
    def skipped(self) -> dict[str, str]:
        """Pictures that could not be decoded, and why."""
        ...

    def placed(self, position: int = 0) -> Generator[tuple[int, Any], None, None]:
        """The batches from `position` on, each with the position to go on from after it."""
        ...
