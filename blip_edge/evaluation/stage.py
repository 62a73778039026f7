"""The stage behind `eval`: a model or a bundle, and a data set, to figures."""

from pathlib import Path

from blip_edge.evaluation.caption import evaluate_captions
from blip_edge.evaluation.references import CaptionSet
from blip_edge.evaluation.result import Evaluation, check_task
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.load import load

__all__ = ["evaluate"]


def evaluate(
    model: Path,
    data: Path,
    *,
    task: str = "caption",
    split: str = "test",
    batch: int = 32,
    limit: int | None = None,
    beams: int | None = None,
    threads: int | None = None,
    max_bad: float = 0.01,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measure a model folder or a bundle by the same code.

    Args:
        model: a model folder or a bundle.
        data: a data set with `caption_{split}.json`.
        task: one of `evaluation.TASKS`.
        split: train, val or test.
        batch: pictures held in memory at a time; it does not change the result.
        limit: only the first so many pictures of the split.
        beams: 1 is greedy search; as the model was saved when not given.
        threads: how many the engine may use; its own choice when not given.
        max_bad: the share of pictures that may be unreadable.

    Raises:
        UsageError: a task that this version has not, or numbers that make no sense.
        ArtifactError: a folder that is not what it should be, or too many unreadable pictures.
        MissingExtraError: the package that runs `model` is not installed.
    """
    check_task(task)
    captions = CaptionSet.read(Path(data), split, limit=limit)
    captioner = load(Path(model), threads=threads)
    return evaluate_captions(
        captioner, captions, batch=batch, beams=beams, max_bad=max_bad, progress=progress
    )
