"""Attributes of things whose boxes are known (OVAD): each named in words, and compared.

As BLIP is measured (OVAD's own program, github.com/OVAD-Benchmark): a box is cut out and embedded;
an attribute is put into templates with the thing left unnamed, and the best of its templates and
synonyms counts; boxes are ranked by cosine.
"""

# B boxes · A attributes · E width of the shared space

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.data.rows import Box
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album, groups
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import average_precisions, mean_average_precision, precision_by_group
from blip_edge.progress import SILENT, Progress

__all__ = ["Embeds", "evaluate_attributes", "phrases"]

F32 = NDArray[np.float32]

# OVAD's program knows people by more names than the data set's attributes say.
_MORE = {
    "young/baby": ("kid", "kids", "child", "toddler", "boy", "girl"),
    "adult/old/aged": ("teen", "elder"),
}


class Embeds(Protocol):
    """Anything that embeds pictures and texts; an `EdgeModel` does."""

    def embed_image(self, image: list[Image.Image], /) -> F32:
        """Unit vectors, one a picture."""
        ...

    def embed_text(self, text: list[str], /) -> F32:
        """Unit vectors, one a text."""
        ...


def phrases(attribute: dict[str, Any]) -> list[str]:
    """The texts that stand for an attribute such as "colour:red"; `/` separates synonyms."""
    kind, _, names = str(attribute["name"]).partition(":")
    noun = kind.removesuffix(" tone")
    words = [*names.split("/"), *_MORE.get(names, ())]
    if attribute.get("is_has_att") == "has":
        forms = ("the {word} {noun}", "the has {word} {noun}")
    else:
        forms = ("the {word}", "the is {word}")
    return [form.format(word=word.strip(), noun=noun) for word in words for form in forms]


def evaluate_attributes(
    model: Embeds,
    dataset: Dataset,
    split: str,
    how: EvalSettings,
    *,
    progress: Progress = SILENT,
) -> Evaluation:
    """mAP on `attributes_{split}.json`, over all attributes and by how frequent they are.

    Raises:
        ArtifactError: no such boxes, none that has an attribute, or too many unreadable pictures.
    """
    attributes, boxes = dataset.boxes(split)
    boxes = boxes[: how.limit]
    album = Album(dataset, len({box.image for box in boxes}), how.max_bad)
    names = _names(model, attributes)
    scores: list[F32] = []
    labels: list[tuple[int, ...]] = []
    for group in progress.track(list(groups(boxes, how.batch)), "embedding"):
        opened = [(box, album.open(box.image)) for box in group]
        cut = [(box, _cut(picture, box)) for box, picture in opened if picture is not None]
        if cut:
            vectors = model.embed_image([picture for _, picture in cut])
            scores.append(np.stack([(vectors @ name.T).max(axis=1) for name in names], axis=1))
            labels += [box.attributes for box, _ in cut]
    if not labels:
        raise ArtifactError(f"{dataset.folder}/attributes_{split}.json has no boxes to look at")
    precisions = average_precisions(np.concatenate(scores), np.asarray(labels))
    try:
        metrics = {"mAP": 100 * mean_average_precision(precisions)}
        kinds = [str(one.get("freq_set", "all")) for one in attributes]
        by_kind = precision_by_group(precisions, kinds)
    except ValueError as error:
        raise ArtifactError(f"{dataset.folder}/attributes_{split}.json: {error}") from None
    metrics |= {f"mAP-{kind}": 100 * value for kind, value in by_kind.items()}
    return Evaluation(
        task="attributes",
        split=split,
        items=len(labels),
        metrics=metrics,
        predictions=[],
        skipped=album.skipped,
    )


def _names(model: Embeds, attributes: list[dict[str, Any]]) -> list[F32]:
    """For each attribute the unit vectors of its phrases."""
    written = [phrases(attribute) for attribute in attributes]
    vectors = model.embed_text([phrase for some in written for phrase in some])
    ends = np.cumsum([len(some) for some in written])
    return np.split(vectors, ends[:-1])


def _cut(picture: Image.Image, box: Box) -> Image.Image:
    """The box, at least one pixel of it."""
    left, top, wide, high = box.xywh
    right, bottom = max(left + wide, left + 1), max(top + high, top + 1)
    return picture.crop((int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))))
