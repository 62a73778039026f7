"""What the loop needs of a task, and what a teacher needs of one."""

# n predictions · C classes or words · B rows · E width of the shared space

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from blip_edge.models.blip import Blip
from blip_edge.training.objectives.matching import Pairs

__all__ = ["Objective", "Said", "TaughtObjective"]


class Objective(Protocol):
    """A task's losses."""

    def __call__(self, batch: Any, step: int) -> dict[str, Tensor]:
        """The losses of one batch of the task's kind, each a scalar, at step `step` from 0 on."""
        ...


@dataclass(frozen=True)
class Said:
    """What a model says of a batch, before it is judged."""

    logits: dict[str, Tensor]
    """(n, C) of everything that it predicts, by the name of the loss."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    """(n,) how much each prediction counts, where they do not count alike."""
    features: tuple[Tensor, Tensor] | None = None
    """Unit vectors (B, E) of pictures and of texts, where they are compared."""
    pairs: Pairs | None = None
    """The pairs that were judged as matching or not."""


@runtime_checkable
class TaughtObjective(Protocol):
    """A task whose predictions another model can be asked for too."""

    def learn(
        self, batch: Any, step: int, pairs: Pairs | None = None
    ) -> tuple[dict[str, Tensor], Said]:
        """The losses, and what the model said that they judge; of `pairs`, if it need not choose.

        A task without wrong partners has no pairs, and heeds none.
        """
        ...

    def ask(self, blip: Blip, batch: Any, said: Said | None) -> Said:
        """What `blip` says of the same, pair by pair and position by position.

        Asked first, before anything is `said`, it chooses pairs by what it finds alike itself.
        """
        ...
