"""Judge every sentence of a split about its two pictures."""

from typing import Protocol

from PIL import Image

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album, groups
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import consistency, judgements
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.results import Reason

__all__ = ["Judges", "evaluate_nlvr2"]


class Judges(Protocol):
    """Anything that judges sentences about two pictures; an `EdgeModel` does."""

    def reason(
        self, left: list[Image.Image], right: list[Image.Image], sentence: list[str], /
    ) -> list[Reason]:
        """One verdict a sentence."""
        ...


def evaluate_nlvr2(
    model: Judges,
    dataset: Dataset,
    split: str,
    how: EvalSettings,
    *,
    progress: Progress = SILENT,
) -> Evaluation:
    """Accuracy on `nlvr_{split}.json`, and consistency where identifiers say what belongs together.

    Raises:
        ArtifactError: no such sentences, or too many unreadable pictures.
    """
    rows = dataset.sentences(split)[: how.limit]
    if not rows:
        raise ArtifactError(f"{dataset.folder}/nlvr_{split}.json has no rows")
    album = Album(dataset, len({image for row in rows for image in row.images}), how.max_bad)
    said: dict[str, bool] = {}
    for group in progress.track(list(groups(rows, how.batch)), "judging"):
        opened = [(row, album.open(row.images[0]), album.open(row.images[1])) for row in group]
        readable = [(row, a, b) for row, a, b in opened if a is not None and b is not None]
        if readable:
            lefts, rights = [a for _, a, _ in readable], [b for _, _, b in readable]
            found = model.reason(lefts, rights, [row.sentence for row, _, _ in readable])
            for (row, _, _), verdict in zip(readable, found, strict=True):
                said[row.identifier] = verdict.label == "True"
    if not said:
        raise ArtifactError(f"{dataset.folder}: no pair of pictures could be read")
    right = judgements(said, {r.identifier: r.label for r in rows if r.identifier in said})
    metrics = {"accuracy": 100 * right.mean}
    if (whole := consistency(right.per_item)) is not None:
        metrics["consistency"] = 100 * whole.mean
    return Evaluation(
        task="nlvr2",
        split=split,
        items=len(said),
        metrics=metrics,
        predictions=[{"identifier": key, "label": str(one)} for key, one in said.items()],
        skipped=album.skipped,
    )
