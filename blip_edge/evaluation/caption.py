"""Caption every picture of a split and score the captions, whatever does the captioning."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from PIL import Image

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation.references import CaptionSet, ImageId, Sample
from blip_edge.evaluation.result import Evaluation, Skipped
from blip_edge.preprocess import open_image
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.results import Caption

__all__ = ["Captioner", "evaluate_captions"]

T = TypeVar("T")


class Captioner(Protocol):
    """Anything that captions pictures; an `EdgeModel` does."""

    def caption(self, image: list[Image.Image], /, *, beams: int | None = None) -> list[Caption]:
        """One caption for each picture, in their order."""
        ...


def evaluate_captions(
    captioner: Captioner,
    captions: CaptionSet,
    *,
    batch: int = 32,
    beams: int | None = None,
    max_bad: float = 0.01,
    progress: Progress = SILENT,
) -> Evaluation:
    """Caption the pictures of `captions`, `batch` at a time, and score what was said.

    Pictures that cannot be read are left out of the metrics and listed.

    Raises:
        ArtifactError: more than the share `max_bad` of the pictures cannot be read.
        UsageError: `batch` is not at least 1.
    """
    if batch < 1:
        raise UsageError(f"batch must be at least 1, not {batch}")
    album = _Album(captions, allowed=max_bad * len(captions.samples))
    said: dict[ImageId, str] = {}
    groups = list(_groups(captions.samples, batch))
    for group in progress.track(groups, "captioning"):
        readable, pictures = album.open(group)
        if pictures:
            spoken = captioner.caption(pictures, beams=beams)
            said |= {s.image_id: c.text for s, c in zip(readable, spoken, strict=True)}
    if not said:
        raise ArtifactError(f"{captions.dataset.folder}: no picture could be read")
    return Evaluation(
        task="caption",
        split=captions.split,
        items=len(said),
        metrics=captions.score(said),
        predictions=[{"image_id": key, "caption": text} for key, text in said.items()],
        skipped=tuple(album.skipped),
    )


@dataclass
class _Album:
    """Opens pictures, and keeps count of those that do not open."""

    captions: CaptionSet
    allowed: float
    skipped: list[Skipped] = field(default_factory=list)

    def open(self, samples: tuple[Sample, ...]) -> tuple[list[Sample], list[Image.Image]]:
        readable: list[Sample] = []
        pictures: list[Image.Image] = []
        for sample in samples:
            try:
                pictures.append(open_image(self.captions.dataset.image_path(sample.image)))
                readable.append(sample)
            except ArtifactError as error:
                self._skip(sample, error)
        return readable, pictures

    def _skip(self, sample: Sample, error: ArtifactError) -> None:
        self.skipped.append(Skipped(sample.image, str(error)))
        if len(self.skipped) > self.allowed:
            raise ArtifactError(
                f"{self.captions.dataset.folder}: {len(self.skipped)} of "
                f"{len(self.captions.samples)} pictures cannot be read, which is too many; "
                f"the last: {error}"
            )


def _groups(items: tuple[T, ...], size: int) -> Iterator[tuple[T, ...]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
