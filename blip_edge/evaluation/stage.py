"""The stage behind `eval`: a model or a bundle, and a data set, to figures."""

from pathlib import Path
from typing import Any

from blip_edge.data import Dataset
from blip_edge.evaluation.attributes import evaluate_attributes
from blip_edge.evaluation.caption import evaluate_captions
from blip_edge.evaluation.nlvr2 import evaluate_nlvr2
from blip_edge.evaluation.pairs import evaluate_pairs
from blip_edge.evaluation.references import CaptionSet
from blip_edge.evaluation.result import EvalSettings, Evaluation, check_task
from blip_edge.evaluation.retrieval import evaluate_retrieval
from blip_edge.evaluation.video_qa import evaluate_video_qa
from blip_edge.evaluation.video_retrieval import evaluate_video_retrieval
from blip_edge.evaluation.visdial import evaluate_visdial
from blip_edge.evaluation.vqa import evaluate_vqa
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.load import load

__all__ = ["evaluate", "evaluate_loaded"]

_OTHERS: dict[str, Any] = {
    "attributes": evaluate_attributes,
    "nlvr2": evaluate_nlvr2,
    "pairs": evaluate_pairs,
    "retrieval": evaluate_retrieval,
    "video-qa": evaluate_video_qa,
    "video-retrieval": evaluate_video_retrieval,
    "visdial": evaluate_visdial,
    "vqa": evaluate_vqa,
}


def evaluate(
    model: Path,
    data: Path,
    *,
    task: str = "caption",
    split: str = "test",
    how: EvalSettings | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measure a model folder or a bundle by the same code.

    Args:
        model: a model folder or a bundle.
        data: a data set with the task's annotations for `split`.
        task: one of `evaluation.TASKS`.
        split: train, val or test; NLVR2's are train, dev and test.
        how: batch, limit, beams, intervals, and who shares the work.
        threads: how many the engine may use; its own choice when not given.
        progress: is told how far it is.

    Raises:
        UsageError: a task that this version has not, or numbers that make no sense.
        ArtifactError: a folder that is not what it should be, a model for another task, or too many
            unreadable pictures.
        MissingExtraError: the package that runs `model` is not installed.
    """
    check_task(task)
    dataset = Dataset.open(data)  # before the model, which takes longer
    loaded = load(Path(model), threads=threads)
    return evaluate_loaded(loaded, dataset, task, split, how or EvalSettings(), progress=progress)


def evaluate_loaded(
    model: Any,
    dataset: Dataset,
    task: str,
    split: str,
    how: EvalSettings,
    *,
    progress: Progress = SILENT,
) -> Evaluation:
    """The same for a model that is open already; see `evaluate`."""
    check_task(task)
    if task != "caption":
        found: Evaluation = _OTHERS[task](model, dataset, split, how, progress=progress)
        return found
    captions = CaptionSet.read(dataset.folder, split, limit=how.limit)
    return evaluate_captions(model, captions, how, progress=progress)
