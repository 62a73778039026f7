"""How a run goes: points of its losses that are kept, and what is told beside the bar."""

from collections.abc import Callable
from time import monotonic

from torch import Tensor

from blip_edge.progress import Progress
from blip_edge.training import processes

__all__ = ["Curve", "Point", "point"]

Point = dict[str, float]

_KEPT, _HEARD = 50, 1000
"""How many points of the loss curve are kept, and how many a listener is given."""
_SECONDS = 2.0
"""How often something is told between them."""


def point(step: int, losses: dict[str, Tensor]) -> Point:
    """The losses at `step` as plain numbers, rounded."""
    return {"step": float(step), **{n: round(loss.item(), 5) for n, loss in losses.items()}}


class Curve:
    """Points evenly spread over `steps` steps, the last included.

    A point is `{"step", …}` with the losses, means over processes, or `{"step", "metric"}`, what
    was measured after that step. `listener` is given these and more between them as they come, and
    with the losses the learning rate, `lr`, and `samples/s` of all processes.
    """

    def __init__(
        self, steps: int, progress: Progress, listener: Callable[[Point], None] | None = None
    ) -> None:
        self._steps, self._progress, self._listener = steps, progress, listener
        self._rows, self._since = 0, monotonic()
        self.points: list[Point] = []

    def add(self, step: int, losses: dict[str, Tensor], rows: int, lr: float) -> None:
        """What came of step `step`, which took `rows` rows of this process at the rate `lr`."""
        self._rows += rows
        keeps, tells = (
            step % max(1, self._steps // points) == 0 or step == self._steps - 1
            for points in (_KEPT, _HEARD)
        )
        if keeps or tells:
            losses = processes.mean(losses)
            found = point(step, losses)
            if keeps:
                self.points.append(found)
            self._listen({**found, "lr": lr, "samples/s": self._tell(losses)})
        elif monotonic() - self._since >= _SECONDS:
            self._tell(losses)

    def measured(self, step: int, value: float) -> None:
        """What the task's metric was after step `step`."""
        kept = {"step": float(step), "metric": round(value, 5)}
        self.points.append(kept)
        self._listen(kept)

    def _listen(self, point: Point) -> None:
        if self._listener is not None:
            self._listener(point)

    def _tell(self, losses: dict[str, Tensor]) -> float:
        """Tell the losses and the speed, and give the speed since the last time."""
        now = monotonic()
        speed = processes.world() * self._rows / max(1e-9, now - self._since)
        self._rows, self._since = 0, now
        told = [f"{name} {loss.item():.3f}" for name, loss in losses.items()]
        self._progress.note(" ".join([*told, f"{speed:.1f} samples/s"]))
        return speed
