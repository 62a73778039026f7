"""Find a clip's texts and a text's clips with a model that has learnt from pictures alone.

As BLIP is measured on MSRVTT (paper, section 5.6 and table 10): 8 frames of a clip are seen one by
one; its embedding is the mean of theirs, and what is read again is read with all of them in view.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.intervals import intervals
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.evaluation.retrieval import F32, search
from blip_edge.evaluation.video import Reel
from blip_edge.metrics import median_rank
from blip_edge.preprocess import Clip
from blip_edge.progress import SILENT, Progress

__all__ = ["evaluate_video_retrieval"]

_FRAMES = 8
# Candidates that BLIP reads.
_K = 128
# Words that BLIP keeps of what is said of a clip; of a picture it keeps fewer.
_WORDS = 40


def evaluate_video_retrieval(
    model: Any,
    dataset: Dataset,
    split: str,
    how: EvalSettings,
    *,
    progress: Progress = SILENT,
) -> Evaluation:
    """Recalls in both directions, and `vid_mdR`, on `video_retrieval_{split}.jsonl`.

    `vid_…` is of clips that texts find, `txt_…` of texts that clips find; `vid_mdR` is the median
    place of a text's clip, from 1.

    Raises:
        ArtifactError: no such rows, or too many unreadable clips.
        MissingExtraError: there are videos, and PyAV is not installed.
    """
    rows = dataset.clips(split)[: how.limit]
    if not rows:
        raise ArtifactError(f"{dataset.folder}/video_retrieval_{split}.jsonl has no rows")
    texts_of: dict[str, list[str]] = {}
    for row in rows:
        texts_of.setdefault(row.clip, []).append(row.caption)
    reel = Reel(dataset, len(texts_of), how, frames=_FRAMES)
    how = replace(how, batch=max(1, how.batch // reel.frames), k=how.k or _K)
    found = search(_Watching(model), texts_of, reel, how, progress)
    return Evaluation(
        task="video-retrieval",
        split=split,
        items=len(found.images),
        metrics={**found.metrics("vid"), "vid_mdR": median_rank(found.image_places)},
        predictions=[
            {"clip_name": clip, "caption": text}
            for clip, text in zip(found.images, found.first, strict=True)
        ],
        skipped=reel.skipped,
        intervals=None if how.ci is None else intervals(how.ci, found.figures("vid")),
    )


class _Watching:
    """A model that compares clips with texts: an `EdgeModel`, told how many words count."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def embed_image(self, image: list[Clip], /) -> F32:
        vectors: F32 = self._model.embed_image(image)
        return vectors

    def embed_text(self, text: list[str], /) -> F32:
        vectors: F32 = self._model.embed_text(text, words=_WORDS)
        return vectors

    def itm_logits(self, image: Clip, texts: Sequence[str], /) -> F32:
        logits: F32 = self._model.itm_logits(image, texts, words=_WORDS)
        return logits
