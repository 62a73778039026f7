"""Find a picture's texts and a text's pictures: by embeddings, and the first k again by reading.

As BLIP is measured (paper, section 5.1): all pairs are ranked by cosine; of each query the k best
are read with the picture in view, and ranked by the logit of a match plus the cosine, before all
others. A picture is encoded twice, once for each pass, so that no picture's tokens are kept: 5,000
of them would be 9 GB. Its keys and values serve all texts that want to be read with it. A text that
several pictures have is embedded once and read once with a picture, so that it scores alike.
"""

# I pictures, or clips · T texts · D different texts

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album, Media, groups
from blip_edge.evaluation.intervals import Figures, intervals, share
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import ranks, retrieval, text_ranks
from blip_edge.progress import SILENT, Progress

__all__ = ["F32", "Compares", "Found", "evaluate_retrieval", "search"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Indices = NDArray[np.intp]
M = TypeVar("M")

# Candidates that BLIP reads on COCO; 128 on Flickr30k.
_K = 256
# Texts that are embedded at a time.
_TEXTS = 256
_RECALLED = (1, 5, 10)
# Below every candidate that was read.
_UNREAD = -100.0


class Compares(Protocol[M]):
    """Anything that compares pictures, or clips, with texts; an `EdgeModel` does."""

    def embed_image(self, image: list[M], /) -> F32:
        """Unit vectors, one a picture."""
        ...

    def embed_text(self, text: list[str], /) -> F32:
        """Unit vectors, one a text."""
        ...

    def itm_logits(self, image: M, texts: Sequence[str], /) -> F32:
        """(R, 2) logits of texts about one picture, class 1 = match."""
        ...


@dataclass(frozen=True)
class Found:
    """Who was found at which place."""

    images: list[str]
    """(I,), those that could be read."""
    owner: Indices
    """(T,), the picture of each text."""
    text_places: Indices
    """(I,), of texts asked with a picture, from 1."""
    image_places: Indices
    """(T,), of pictures asked with a text, from 1."""
    first: list[str]
    """(I,), the text that comes first when it is asked with a picture."""

    def metrics(self, name: str = "img") -> dict[str, float]:
        """Recalls of both directions and their means; `name` is what pictures are called."""
        shares = retrieval(self.text_places, self.image_places, name=name)
        return {metric: 100 * share for metric, share in shares.items()}

    def figures(self, name: str = "img") -> Figures:
        """What each picture, drawn with its texts, adds to the recalls."""
        size = len(self.images)
        asked = np.bincount(self.owner, minlength=size).astype(np.float64)
        own = [100.0 * (self.text_places <= k) for k in _RECALLED]
        found = [np.bincount(self.owner, 100.0 * (self.image_places <= k), size) for k in _RECALLED]
        table = np.stack([*own, *found, np.ones_like(asked), asked], axis=1)
        of_sums = {f"txt_r{k}": share(column, -2) for column, k in enumerate(_RECALLED)}
        of_sums |= {"txt_r_mean": _mean(list(of_sums.values()))}
        pictures = {f"{name}_r{k}": share(column, -1) for column, k in enumerate(_RECALLED, 3)}
        of_sums |= pictures | {f"{name}_r_mean": _mean(list(pictures.values()))}
        of_sums["r_mean"] = _mean([of_sums["txt_r_mean"], of_sums[f"{name}_r_mean"]])
        return Figures(table, of_sums)


def evaluate_retrieval(
    model: Compares[Image.Image],
    dataset: Dataset,
    split: str,
    how: EvalSettings,
    *,
    progress: Progress = SILENT,
) -> Evaluation:
    """R@1, R@5 and R@10 in both directions, and their means, on `retrieval_{split}.json`.

    Raises:
        ArtifactError: no such rows, or too many unreadable pictures.
    """
    rows = dataset.retrieval(split)[: how.limit]
    if not rows:
        raise ArtifactError(f"{dataset.folder} has no pictures with texts for {split}")
    texts_of: dict[str, list[str]] = {}
    for row in rows:
        texts_of.setdefault(row.image, []).extend(row.captions)
    without = [image for image, own in texts_of.items() if not own]
    if without:
        raise ArtifactError(f"{dataset.folder}: {without[0]} of {split} has no texts to be found")
    album = Album(dataset, len(texts_of), how.max_bad, how.crew)
    found = search(model, texts_of, album, how, progress)
    return Evaluation(
        task="retrieval",
        split=split,
        items=len(found.images),
        metrics=found.metrics(),
        predictions=[
            {"image": image, "caption": text}
            for image, text in zip(found.images, found.first, strict=True)
        ],
        skipped=album.skipped,
        intervals=None if how.ci is None else intervals(how.ci, found.figures()),
    )


def search(
    model: Compares[M],
    texts_of: Mapping[str, Sequence[str]],
    media: Media[M],
    how: EvalSettings,
    progress: Progress,
) -> Found:
    """Look for each one's texts among all of them, and for each text's owner.

    Raises:
        ArtifactError: too many that are unreadable.
    """
    images, vectors = _embedded(model, list(texts_of), media, how, progress)
    texts = [text for image in images for text in texts_of[image]]
    owner = np.repeat(np.arange(len(images)), [len(texts_of[image]) for image in images])
    said = list(dict.fromkeys(texts))  # (D,)
    place = {text: number for number, text in enumerate(said)}
    which = np.array([place[text] for text in texts])  # (T,)
    batches = list(groups(said, _TEXTS))
    embedded = how.crew.gathered(batches, lambda some: list(model.embed_text(list(some))), "texts")
    cosines = (vectors @ np.stack(embedded).T)[:, which]  # (I, T)
    by_image, by_text = _read_again(model, images, said, which, cosines, media, how, progress)
    first = [texts[best] for best in by_image.argmax(axis=1)]
    return Found(images, owner, text_ranks(by_image, owner), ranks(by_text.T, owner), first)


def _embedded(
    model: Compares[M], images: list[str], media: Media[M], how: EvalSettings, progress: Progress
) -> tuple[list[str], F32]:
    """Those that can be read, and their unit vectors (I, E)."""

    def embed(group: Sequence[str]) -> list[tuple[str, F32]]:
        opened = [(image, media.open(image)) for image in group]
        pictures = [picture for _, picture in opened if picture is not None]
        readable = [image for image, picture in opened if picture is not None]
        return list(zip(readable, model.embed_image(pictures), strict=True)) if pictures else []

    found = how.crew.gathered(list(groups(images, how.batch)), embed, "embedding", progress)
    if not found:
        raise ArtifactError("nothing that the texts are about could be read")
    return [image for image, _ in found], np.stack([vector for _, vector in found])


def _read_again(
    model: Compares[M],
    images: list[str],
    said: list[str],
    which: Indices,
    cosines: F32,
    media: Media[M],
    how: EvalSettings,
    progress: Progress,
) -> tuple[F32, F32]:
    """(I, T) scores to rank texts by image, and images by text: the first k read, others below.

    `which` (T,) are the texts' places among the `said` (D,) different ones.
    """
    k = how.k or _K
    first_texts = _first(cosines, k)  # (I, T)
    first_images = _first(cosines.T, k).T  # (I, T)

    def read(number: int) -> list[tuple[int, Indices, F32]]:
        wanted = np.flatnonzero(first_texts[number] | first_images[number])
        picture = media.open(images[number])
        if picture is None or not len(wanted):
            return []
        different, again = np.unique(which[wanted], return_inverse=True)
        logits = model.itm_logits(picture, [said[d] for d in different])[again, 1]
        return [(number, wanted, logits + cosines[number, wanted])]

    by_image = np.full_like(cosines, _UNREAD)
    by_text = np.full_like(cosines, _UNREAD)
    for number, wanted, scores in how.crew.gathered(range(len(images)), read, "reading", progress):
        by_image[number, wanted] = np.where(first_texts[number, wanted], scores, _UNREAD)
        by_text[number, wanted] = np.where(first_images[number, wanted], scores, _UNREAD)
    return by_image, by_text


def _first(scores: F32, k: int) -> NDArray[np.bool_]:
    """(Q, C) whether a candidate is among the k best of its query; all are if k is larger."""
    chosen = np.zeros(scores.shape, dtype=np.bool_)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.put_along_axis(chosen, best, True, axis=1)
    return chosen


def _mean(metrics: list[Callable[[F64], F64]]) -> Callable[[F64], F64]:
    def mean(sums: F64) -> F64:
        found: F64 = np.mean([metric(sums) for metric in metrics], axis=0)
        return found

    return mean
