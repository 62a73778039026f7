"""Caption every picture of a split and score the captions, whatever does the captioning."""

from typing import Protocol

from PIL import Image

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation.album import Album, groups
from blip_edge.evaluation.references import CaptionSet, ImageId
from blip_edge.evaluation.result import Evaluation
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.results import Caption

__all__ = ["Captioner", "evaluate_captions"]


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
    album = Album(captions.dataset, len(captions.samples), max_bad)
    said: dict[ImageId, str] = {}
    for group in progress.track(list(groups(captions.samples, batch)), "captioning"):
        opened = [(sample, album.open(sample.image)) for sample in group]
        readable = [(sample, picture) for sample, picture in opened if picture is not None]
        if readable:
            spoken = captioner.caption([picture for _, picture in readable], beams=beams)
            found = zip(readable, spoken, strict=True)
            said |= {sample.image_id: caption.text for (sample, _), caption in found}
    if not said:
        raise ArtifactError(f"{captions.dataset.folder}: no picture could be read")
    return Evaluation(
        task="caption",
        split=captions.split,
        items=len(said),
        metrics=captions.score(said),
        predictions=[{"image_id": key, "caption": text} for key, text in said.items()],
        skipped=album.skipped,
    )
