"""A split's pictures with what people say of them, ready to be captioned or scored."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from blip_edge.data import Dataset
from blip_edge.data.rows import CaptionRow
from blip_edge.data.shapes import Scene, read_scenes
from blip_edge.errors import ArtifactError, UsageError

__all__ = ["CaptionSet", "ImageId", "Sample", "unique"]

R = TypeVar("R")

ImageId = int | str


@dataclass(frozen=True)
class Sample:
    """One picture and its references."""

    image_id: ImageId
    """As it stands in a results file: a number where the data set's own id is one."""
    image: str
    """Its path, relative to the image root."""
    references: tuple[str, ...]
    """None where the captions are hidden."""
    domain: str | None = None
    """Of nocaps: in-domain, near-domain or out-domain."""


@dataclass(frozen=True)
class CaptionSet:
    """The pictures of one split, and for a drawn world the scenes behind them."""

    dataset: Dataset
    split: str
    samples: tuple[Sample, ...]
    scenes: dict[str, Scene] | None

    @classmethod
    def read(cls, data: Path, split: str, *, limit: int | None = None) -> "CaptionSet":
        """Read the annotations of a split; of its first `limit` pictures when that is given.

        Raises:
            ArtifactError: `data` is no data set, or has no captions for `split`.
            UsageError: `limit` is not at least 1.
        """
        if limit is not None and limit < 1:
            raise UsageError(f"limit must be at least 1, not {limit}")
        dataset = Dataset.open(data)
        where = data / f"caption_{split}.json"
        samples = _samples(dataset.captions(split), where)[:limit]
        if not samples:
            raise ArtifactError(f"{where} has no rows")
        drawn = dataset.has(f"scenes_{split}.json")
        scenes = read_scenes(data, split) if drawn else None
        without = next(
            (s.image for s in samples if scenes is not None and s.image not in scenes), None
        )
        if without is not None:
            raise ArtifactError(f"{data / f'scenes_{split}.json'} has no scene for {without}")
        return cls(dataset, split, samples, scenes)

    @property
    def where(self) -> Path:
        """The file of the annotations."""
        return self.dataset.folder / f"caption_{self.split}.json"


def unique(rows: list[R], key: str, where: Path) -> list[R]:
    """`rows`, of which no two say the same `key`.

    Raises:
        ArtifactError: two do, or there are no rows.
    """
    if not rows:
        raise ArtifactError(f"{where} has no rows")
    (often, times), *_ = Counter(getattr(row, key) for row in rows).most_common(1)
    if times > 1:
        raise ArtifactError(f"{where}: {key} {often} stands in {times} rows; each needs its own")
    return rows


def _samples(rows: list[CaptionRow], where: Path) -> tuple[Sample, ...]:
    """Rows of one picture become one sample: a training split has a row for each caption."""
    ids = _result_ids(rows)
    images: dict[ImageId, str] = {}
    domains: dict[ImageId, str | None] = {}
    references: dict[ImageId, list[str]] = {}
    for row in rows:
        image_id = ids[row.image]
        if images.setdefault(image_id, row.image) != row.image:
            raise ArtifactError(
                f"{where}: image_id {image_id} stands for both {images[image_id]} and {row.image}"
            )
        references.setdefault(image_id, []).extend(row.captions)
        domains[image_id] = row.domain
    return tuple(
        Sample(image_id, image, tuple(references[image_id]), domains[image_id])
        for image_id, image in images.items()
    )


def _result_ids(rows: list[CaptionRow]) -> dict[str, ImageId]:
    """The id of each picture in a results file.

    Karpathy's test files carry no id; the field takes the number that ends the picture's name
    (COCO_val2014_000000391895.jpg is 391895), or the path where that is none or is not unique.
    """
    own = {row.image: row.image_id for row in rows}
    named = {image: _number(image) for image, image_id in own.items() if image_id == image}
    uses = Counter(named.values())
    return {
        image: _id(image_id) if image not in named or uses[named[image]] > 1 else named[image]
        for image, image_id in own.items()
    }


def _number(image: str) -> ImageId:
    tail = PurePosixPath(image).stem.rpartition("_")[2]
    return int(tail) if tail.isascii() and tail.isdigit() else image


def _id(image_id: str) -> ImageId:
    canonical = image_id.isascii() and image_id.isdigit() and str(int(image_id)) == image_id
    return int(image_id) if canonical else image_id
