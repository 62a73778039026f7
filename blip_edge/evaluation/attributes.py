"""Attributes of things whose boxes are known (OVAD): each named in words, and compared.

As BLIP is measured (OVAD's own program, github.com/OVAD-Benchmark): a box is cut out and embedded;
an attribute is put into templates with the thing left unnamed, and the best of its templates and
synonyms counts; boxes are ranked by cosine.
"""

# B boxes · A attributes · E width of the shared space · R resamples

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.data.rows import Box
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album, groups
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import (
    Bootstrap,
    Interval,
    average_precisions,
    drawn_precision,
    mean_average_precision,
    precision_by_group,
)
from blip_edge.progress import SILENT, Progress

__all__ = ["Embeds", "evaluate_attributes", "phrases"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

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
    where = f"{dataset.folder}/attributes_{split}.json"
    album = Album(dataset, len({box.image for box in boxes}), how.max_bad, how.crew)
    names = _names(model, attributes)

    def ask(group: Sequence[Box]) -> list[tuple[Box, F32]]:
        opened = [(box, album.open(box.image)) for box in group]
        cut = [(box, _cut(picture, box)) for box, picture in opened if picture is not None]
        if not cut:
            return []
        vectors = model.embed_image([picture for _, picture in cut])
        scores = np.stack([(vectors @ name.T).max(axis=1) for name in names], axis=1)
        return list(zip([box for box, _ in cut], scores, strict=True))

    batches = list(groups(boxes, how.batch))
    found = how.crew.gathered(batches, ask, "embedding", progress)
    if not found:
        raise ArtifactError(f"{where} has no boxes to look at")
    table = np.stack([scores for _, scores in found])  # (B, A)
    seen = [box for box, _ in found]
    kinds = [str(one.get("freq_set", "all")) for one in attributes]
    return Evaluation(
        task="attributes",
        split=split,
        items=len(seen),
        metrics=_precisions(table, seen, kinds, where),
        predictions=[
            {"image": box.image, "bbox": list(box.xywh), "att_scores": scores.tolist()}
            for box, scores in found
        ],
        skipped=album.skipped,
        intervals=None if how.ci is None else _intervals(how.ci, table, seen, kinds),
    )


def _precisions(
    scores: F32, boxes: Sequence[Box], kinds: Sequence[str], where: str
) -> dict[str, float]:
    """mAP over all attributes, and over those of each kind."""
    precisions = average_precisions(scores, [box.attributes for box in boxes])
    try:
        metrics = {"mAP": 100 * mean_average_precision(precisions)}
        by_kind = precision_by_group(precisions, kinds)
    except ValueError as error:
        raise ArtifactError(f"{where}: {error}") from None
    return metrics | {f"mAP-{kind}": 100 * value for kind, value in by_kind.items()}


def _intervals(
    ci: Bootstrap, scores: F32, boxes: Sequence[Box], kinds: Sequence[str]
) -> dict[str, Interval]:
    """Pictures are drawn with all their boxes; an attribute that no drawn box has is left out."""
    labels = np.array([box.attributes for box in boxes])
    had = [number for number in range(len(kinds)) if (labels[:, number] == 1).any()]
    of_each = [drawn_precision(scores[:, number], labels[:, number]) for number in had]
    own = [kinds[number] for number in had]
    chosen = {"mAP": np.ones(len(had), dtype=np.bool_)}
    chosen |= {f"mAP-{kind}": np.array([one == kind for one in own]) for kind in dict.fromkeys(own)}

    def figures(times: F64) -> F64:
        table = np.stack([precision(times) for precision in of_each], axis=1)
        return 100 * np.stack([_mean(table[:, some]) for some in chosen.values()], axis=1)

    found = ci.weighted(figures, len(boxes), clusters=[box.image for box in boxes])
    return dict(zip(chosen, found, strict=True))


def _mean(table: F64) -> F64:
    """(R,): of each row, what is not NaN; NaN where nothing else is."""
    known = ~np.isnan(table)
    number = known.sum(axis=1)
    found = np.full(len(table), np.nan)
    np.divide(np.where(known, table, 0).sum(axis=1), number, out=found, where=number > 0)
    return found


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
