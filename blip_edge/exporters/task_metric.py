"""The last gate: on a data set a bundle must be as good as the network that it was made of.

Words may differ where two are nearly as likely; this says whether that costs anything.
"""

from dataclasses import asdict, dataclass
from typing import Any

from blip_edge.data.dataset import Dataset
from blip_edge.evaluation.result import EvalSettings
from blip_edge.evaluation.stage import evaluate_loaded
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import Task

__all__ = ["MetricGate", "TaskMetric"]

# The metric of each task, its annotations, and splits by preference: of some test splits the
# answers are not public.
_METRICS: dict[Task, tuple[str, str, tuple[str, ...]]] = {
    "caption": ("CIDEr", "caption", ("val", "test")),
    "retrieval": ("r_mean", "caption", ("val", "test")),
    "vqa": ("vqa_accuracy", "vqa", ("val", "test")),
    "nlvr2": ("accuracy", "nlvr", ("dev", "test")),
}
# Candidates that are read again in retrieval: two models that agree need no more to show it.
_K = 8
# So many items changed for the worse are chance: a gate of 99 % is one on 200 items or more.
_CHANCE = 2


@dataclass(frozen=True)
class TaskMetric:
    """One metric of a bundle and of torch, on the same items."""

    name: str
    split: str
    items: int
    data: dict[str, str]
    """`{"name", "sha256"}` of the data set."""
    torch: float
    bundle: float

    @property
    def share(self) -> float:
        """Of torch's metric; of 0 nothing can be lost."""
        return 1.0 if self.torch <= 0 else self.bundle / self.torch

    def to_json(self) -> dict[str, Any]:
        """As manifest.json has it."""
        return {**asdict(self), "share": round(self.share, 4)}


@dataclass(frozen=True)
class MetricGate:
    """What a bundle must reach of torch's metric, and on what."""

    dataset: Dataset
    items: int
    """Of the split, at most."""
    share: float

    def measure(
        self, task: Task, bundle: EdgeModel, torch: EdgeModel, progress: Progress = SILENT
    ) -> TaskMetric | None:
        """Both on the validation split, or the test split without one; None where the right answers
        are hidden.

        Raises:
            ArtifactError: too many pictures that cannot be read.
        """
        name, rows, splits = _METRICS[task]
        split = next((one for one in splits if self.dataset.has(f"{rows}_{one}.json")), splits[-1])
        how = EvalSettings(limit=self.items, k=_K if task == "retrieval" else None)
        theirs, ours = (
            evaluate_loaded(model, self.dataset, task, split, how, progress=progress)
            for model in (torch, bundle)
        )
        if name not in ours.metrics:
            return None
        data = {"name": self.dataset.name, "sha256": self.dataset.digest()}
        return TaskMetric(
            name, split, ours.items, data, float(theirs.metrics[name]), float(ours.metrics[name])
        )

    def explain(self, task: Task, found: TaskMetric) -> list[str]:
        """What is wrong, if something is: a line."""
        least = min(self.share, 1 - _CHANCE / max(found.items, _CHANCE))
        if found.share >= least:
            return []
        return [
            f"{task}: {found.name} {found.bundle:.4g} instead of torch's {found.torch:.4g} on "
            f"{found.items} items of {found.data['name']}'s {found.split}: {found.share:.1%} "
            f"(at least {least:.1%})"
        ]
