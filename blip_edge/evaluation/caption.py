"""Caption every picture of a split and score the captions, whatever does the captioning."""

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from blip_edge.errors import ArtifactError
from blip_edge.evaluation.agreement import judge_captions
from blip_edge.evaluation.album import Album, groups
from blip_edge.evaluation.references import CaptionSet, ImageId, Sample
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.results import Caption

__all__ = ["Captioner", "evaluate_captions"]


class Captioner(Protocol):
    """Anything that captions pictures; an `EdgeModel` does."""

    def caption(
        self,
        image: list[Image.Image],
        /,
        *,
        beams: int | None = None,
        repetition_penalty: float | None = None,
    ) -> list[Caption]:
        """One caption for each picture, in their order."""
        ...


def evaluate_captions(
    captioner: Captioner,
    captions: CaptionSet,
    how: EvalSettings | None = None,
    *,
    progress: Progress = SILENT,
) -> Evaluation:
    """Caption the pictures of `captions`, some at a time, and score what was said.

    Pictures that cannot be read are left out of the metrics and listed. Of a split whose captions
    are hidden (nocaps' test) there are the predictions alone.

    Raises:
        ArtifactError: more than the share `how.max_bad` of the pictures cannot be read.
    """
    how = how or EvalSettings()
    album = Album(captions.dataset, len(captions.samples), how.max_bad, how.crew)

    def ask(group: Sequence[Sample]) -> list[tuple[ImageId, str]]:
        opened = [(sample, album.open(sample.image)) for sample in group]
        readable = [(sample, picture) for sample, picture in opened if picture is not None]
        if not readable:
            return []
        spoken = captioner.caption(
            [picture for _, picture in readable],
            beams=how.beams,
            repetition_penalty=how.repetition_penalty,
        )
        found = zip(readable, spoken, strict=True)
        return [(sample.image_id, caption.text) for (sample, _), caption in found]

    batches = list(groups(captions.samples, how.batch))
    said = dict(how.crew.gathered(batches, ask, "captioning", progress))
    if not said:
        raise ArtifactError(f"{captions.dataset.folder}: no picture could be read")
    skipped = album.skipped
    # By one for all: SPICE takes 8 GB.
    return how.crew.once(lambda: judge_captions(captions, said, ci=how.ci, skipped=skipped))
