"""What the loop needs of a task."""

from typing import Any, Protocol

from torch import Tensor

__all__ = ["Objective"]


class Objective(Protocol):
    """A task's losses."""

    def __call__(self, batch: Any, step: int) -> dict[str, Tensor]:
        """The losses of one batch of the task's kind, each a scalar, at step `step` from 0 on."""
        ...
