"""Whether pictures answer queries: how well relevant pairs are told from others."""

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import roc_auc
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.results import Match

__all__ = ["Matches", "evaluate_pairs"]


class Matches(Protocol):
    """Anything that matches texts with a picture; an `EdgeModel` does."""

    def match(self, image: Image.Image, texts: Sequence[str], /) -> list[Match]:
        """One match a text."""
        ...


def evaluate_pairs(
    model: Matches,
    dataset: Dataset,
    split: str,
    how: EvalSettings,
    *,
    progress: Progress = SILENT,
) -> Evaluation:
    """ROC-AUC on `pairs_{split}.json`, by the probability of a match and by the cosine.

    Raises:
        ArtifactError: no such rows, all of one kind, or too many unreadable pictures.
    """
    rows = dataset.queries(split)[: how.limit]
    of_image: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        of_image.setdefault(row.image, []).append(number)
    album = Album(dataset, len(of_image), how.max_bad)
    found: dict[int, Match] = {}
    for image, numbers in progress.track(list(of_image.items()), "matching"):
        picture = album.open(image)
        if picture is not None:
            matches = model.match(picture, [rows[number].text for number in numbers])
            found |= dict(zip(numbers, matches, strict=True))
    labels = [rows[number].label for number in found]
    if len(set(labels)) < 2:
        raise ArtifactError(f"{dataset.folder}/pairs_{split}.json needs pairs of both kinds")
    return Evaluation(
        task="pairs",
        split=split,
        items=len(found),
        metrics={
            "ROC-AUC": 100 * roc_auc([one.itm for one in found.values()], labels),
            "ROC-AUC-itc": 100 * roc_auc([one.itc for one in found.values()], labels),
        },
        predictions=[
            {"image": rows[n].image, "text": rows[n].text, "score": one.itm}
            for n, one in found.items()
        ],
        skipped=album.skipped,
    )
