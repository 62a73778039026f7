"""What an evaluation found, and which tasks there are."""

from dataclasses import dataclass
from typing import Any

from blip_edge.errors import UsageError

__all__ = ["TASKS", "Evaluation", "Skipped", "check_task"]

TASKS = ("caption",)
"""The tasks that this version evaluates."""


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read, and so was left out."""

    image: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How good a model, or a file of predictions, is on one split of a data set."""

    task: str
    split: str
    items: int
    """How many pictures were scored."""
    metrics: dict[str, float]
    """By the names that the field gives them, and in the figures that papers print."""
    predictions: list[dict[str, Any]]
    """In the field's own results format, for captions `{"image_id", "caption"}`."""
    skipped: tuple[Skipped, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What `eval --json` prints: task, split, items and metrics."""
        return {
            "task": self.task,
            "split": self.split,
            "items": self.items,
            "metrics": dict(self.metrics),
        }


def check_task(task: str) -> None:
    """Refuse a task that is not in `TASKS` with a UsageError that names those which are."""
    if task not in TASKS:
        raise UsageError(
            f"the task {task!r} cannot be evaluated in this version; what can: {', '.join(TASKS)}"
        )
