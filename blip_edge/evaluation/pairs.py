"""Whether pictures answer queries: how well relevant pairs are told from others."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.data.rows import QueryRow
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import Bootstrap, Interval, drawn_auc, roc_auc
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
    album = Album(dataset, len(of_image), how.max_bad, how.crew)

    def ask(image: str) -> list[tuple[int, Match]]:
        picture, numbers = album.open(image), of_image[image]
        if picture is None:
            return []
        matches = model.match(picture, [rows[number].text for number in numbers])
        return list(zip(numbers, matches, strict=True))

    found = dict(how.crew.gathered(list(of_image), ask, "matching", progress))
    asked = [rows[number] for number in found]
    if len({row.label for row in asked}) < 2:
        raise ArtifactError(f"{dataset.folder}/pairs_{split}.json needs pairs of both kinds")
    labels = [row.label for row in asked]
    scores = {
        "ROC-AUC": [one.itm for one in found.values()],
        "ROC-AUC-itc": [one.itc for one in found.values()],
    }
    return Evaluation(
        task="pairs",
        split=split,
        items=len(found),
        metrics={name: 100 * roc_auc(own, labels) for name, own in scores.items()},
        predictions=[
            {"image": row.image, "text": row.text, "score": one.itm}
            for row, one in zip(asked, found.values(), strict=True)
        ],
        skipped=album.skipped,
        intervals=None if how.ci is None else _intervals(how.ci, scores, asked),
    )


def _intervals(
    ci: Bootstrap, scores: Mapping[str, list[float]], rows: Sequence[QueryRow]
) -> dict[str, Interval]:
    """Pictures are drawn with all their pairs."""
    labels = [row.label for row in rows]
    areas = [drawn_auc(own, labels) for own in scores.values()]
    found = ci.weighted(
        lambda times: 100 * np.concatenate([area(times) for area in areas], axis=1),
        len(rows),
        clusters=[row.image for row in rows],
    )
    return dict(zip(scores, found, strict=True))
