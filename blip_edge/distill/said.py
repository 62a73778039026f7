"""A data set in which the teacher's own captions stand in the place of some of people's.

Sequence-level distillation (Kim and Rush, arXiv 1606.07947, section 3.2): a student learns what its
teacher's search ends with, and not only word by word what it would say next.
"""

import random
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace

from PIL import Image

from blip_edge.data.dataset import Dataset
from blip_edge.data.rows import CaptionRow
from blip_edge.errors import ArtifactError
from blip_edge.models.folder import Model
from blip_edge.preprocess import open_image
from blip_edge.progress import SILENT, Progress
from blip_edge.training.engine import edge_model

__all__ = ["TaughtDataset", "captions_of"]

_BATCH = 32


@dataclass(frozen=True)
class TaughtDataset(Dataset):
    """A data set whose training captions are `taught`."""

    taught: list[CaptionRow] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        teacher: Model,
        share: float,
        *,
        seed: int = 0,
        said: dict[str, str] | None = None,
        progress: Progress = SILENT,
    ) -> "TaughtDataset":
        """`share` of the training rows, drawn by `seed`, with what `teacher` says of the picture.

        `said` has its captions by picture, if it was asked before. A row whose picture cannot be
        read keeps its own: who reads the rows counts it among the bad ones.
        """
        rows, chosen = dataset.captions("train"), _chosen(dataset, share, seed)
        found = said
        if found is None:
            found = captions_of(dataset, teacher, share, seed=seed, progress=progress)
        taught = [
            replace(row, captions=(found[row.image],))
            if number in chosen and row.image in found
            else row
            for number, row in enumerate(rows)
        ]
        own = {each.name: getattr(dataset, each.name) for each in fields(Dataset)}
        return cls(**own, taught=taught)

    def captions(self, split: str) -> list[CaptionRow]:
        """As of the data set; of the training split the taught ones."""
        return self.taught if split == "train" else super().captions(split)


def captions_of(
    dataset: Dataset, teacher: Model, share: float, *, seed: int = 0, progress: Progress = SILENT
) -> dict[str, str]:
    """What `teacher` says of the pictures of those rows, without those that cannot be read."""
    rows, chosen = dataset.captions("train"), _chosen(dataset, share, seed)
    images = list(dict.fromkeys(rows[number].image for number in sorted(chosen)))
    captioner = edge_model(teacher)
    found: dict[str, str] = {}
    starts = range(0, len(images), _BATCH)
    for start in progress.track(starts, "captions of the teacher", total=len(starts)):
        part: dict[str, Image.Image] = {}
        for image in images[start : start + _BATCH]:
            with suppress(ArtifactError):
                part[image] = open_image(dataset.image_path(image))
        said = captioner.caption(list(part.values()))
        found |= {image: one.text for image, one in zip(part, said, strict=True)}
    return found


def _chosen(dataset: Dataset, share: float, seed: int) -> set[int]:
    """Numbers of the rows whose captions are the teacher's."""
    drawn = random.Random(seed)
    rows = range(len(dataset.captions("train")))
    return {number for number in rows if drawn.random() < share}
