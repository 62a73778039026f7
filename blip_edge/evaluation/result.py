"""What an evaluation found, and which tasks there are."""

from dataclasses import dataclass
from typing import Any

from blip_edge.errors import UsageError
from blip_edge.evaluation.album import Skipped

__all__ = ["TASKS", "EvalSettings", "Evaluation", "check_task"]

TASKS = ("caption", "retrieval", "vqa", "nlvr2", "visdial", "attributes", "pairs")
"""The tasks that this version evaluates."""


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """How an evaluation is run."""

    batch: int = 32
    """Pictures held in memory at a time; it does not change the result."""
    limit: int | None = None
    """Only the first so many rows of the split."""
    beams: int | None = None
    """1 is greedy search; as the model was saved when not given."""
    k: int | None = None
    """Retrieval: candidates of each query that are read with the picture in view. Questions: how
    many of the listed answers are scored. As in BLIP when not given."""
    max_bad: float = 0.01
    """The share of pictures that may be unreadable."""

    def __post_init__(self) -> None:
        for name in ("batch", "limit", "beams", "k"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How good a model, or a file of predictions, is on one split of a data set."""

    task: str
    split: str
    items: int
    """How many pictures, questions, sentences or boxes were scored."""
    metrics: dict[str, float]
    """By the names that the field gives them, and in the figures that papers print."""
    predictions: list[dict[str, Any]]
    """In the field's own results format: `{"image_id", "caption"}`, `{"question_id", "answer"}`."""
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
