"""What an evaluation found, and which tasks there are."""

from dataclasses import asdict, dataclass, field
from typing import Any

from blip_edge.data.video import Sampling
from blip_edge.errors import UsageError
from blip_edge.evaluation.album import Skipped
from blip_edge.evaluation.crew import ALONE, Crew
from blip_edge.metrics import Bootstrap, Interval

__all__ = ["TASKS", "EvalSettings", "Evaluation", "check_task"]

TASKS = (
    "caption",
    "retrieval",
    "vqa",
    "nlvr2",
    "visdial",
    "attributes",
    "pairs",
    "video-retrieval",
    "video-qa",
)
"""The tasks that this version evaluates."""


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """How an evaluation is run."""

    batch: int = 32
    """Pictures, or frames, held in memory at a time; it does not change the result."""
    limit: int | None = None
    """Only the first so many rows of the split."""
    beams: int | None = None
    """1 is greedy search; as the model was saved when not given."""
    repetition_penalty: float | None = None
    """Captions: above 1 avoids words said before, nocaps' 1.1; as the model was saved when not
    given."""
    k: int | None = None
    """Retrieval: candidates of each query that are read with the picture in view. Questions: how
    many of the listed answers are scored. As in BLIP when not given."""
    max_bad: float = 0.01
    """The share of pictures, or of clips, that may be unreadable."""
    frames: int | None = None
    """How many are taken of a clip; as in BLIP when not given: 8 to find it, 16 to ask about it."""
    sampling: Sampling = "uniform"
    """Where in a clip they are taken; see `data.video.positions`."""
    ci: Bootstrap | None = None
    """How intervals are drawn; there are none when not given."""
    crew: Crew = ALONE
    """The processes that share the work. Every one of them finds the whole result."""

    def __post_init__(self) -> None:
        for name in ("batch", "limit", "beams", "k", "frames"):
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
    """In the field's own results format, as `evaluation.predictions` describes it."""
    skipped: tuple[Skipped, ...] = ()
    intervals: dict[str, Interval] | None = None
    """Of the metrics that have one, in the metric's own figures; None when nobody asked."""
    groups: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """The same metrics of parts of the split, where rows say what they belong to: by
    `perAnswerType`, `perQuestionType`, `perDomain`, and then by the group's name. Each group also
    says how many `items` it has."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures should know, a line each."""

    def as_json(self) -> dict[str, Any]:
        """What `eval --json` prints: task, split, items and metrics, and what else there is."""
        found: dict[str, Any] = {
            "task": self.task,
            "split": self.split,
            "items": self.items,
            "metrics": dict(self.metrics),
        }
        if self.intervals is not None:
            found["intervals"] = {name: [one.low, one.high] for name, one in self.intervals.items()}
        if self.groups:
            found["groups"] = self.groups
        if self.skipped:
            found["skipped"] = [asdict(one) for one in self.skipped]
        if self.notes:
            found["notes"] = list(self.notes)
        return found


def check_task(task: str) -> None:
    """Refuse a task that is not in `TASKS` with a UsageError that names those which are."""
    if task not in TASKS:
        raise UsageError(
            f"the task {task!r} cannot be evaluated in this version; what can: {', '.join(TASKS)}"
        )
