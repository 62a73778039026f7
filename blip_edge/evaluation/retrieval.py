"""Find a picture's texts and a text's pictures: by embeddings, and the first k again by reading.

As BLIP is measured (paper, section 5.1): all pairs are ranked by cosine; of each query the k best
are read with the picture in view, and ranked by the logit of a match plus the cosine, before all
others. A picture is encoded twice, once for each pass, so that no picture's tokens are kept: 5,000
of them would be 9 GB. Its keys and values serve all texts that want to be read with it.
"""

# I pictures · T texts

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.album import Album, groups
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.metrics import ranks, retrieval, text_ranks
from blip_edge.progress import SILENT, Progress

__all__ = ["Compares", "evaluate_retrieval"]

F32 = NDArray[np.float32]

# Candidates that BLIP reads on COCO; 128 on Flickr30k.
_K = 256
# Below every candidate that was read.
_UNREAD = -100.0


class Compares(Protocol):
    """Anything that compares pictures with texts; an `EdgeModel` does."""

    def embed_image(self, image: list[Image.Image], /) -> F32:
        """Unit vectors, one a picture."""
        ...

    def embed_text(self, text: list[str], /) -> F32:
        """Unit vectors, one a text."""
        ...

    def itm_logits(self, image: Image.Image, texts: Sequence[str], /) -> F32:
        """(R, 2) logits of texts about one picture, class 1 = match."""
        ...


def evaluate_retrieval(
    model: Compares,
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
    album = Album(dataset, len(texts_of), how.max_bad)
    images, vectors = _embedded(model, list(texts_of), album, how.batch, progress)
    texts = [text for image in images for text in texts_of[image]]
    owner = np.repeat(np.arange(len(images)), [len(texts_of[image]) for image in images])
    cosines = vectors @ model.embed_text(texts).T  # (I, T)
    by_image, by_text = _read_again(
        model, images, texts, cosines, album, min(how.k or _K, cosines.size), progress
    )
    found = retrieval(text_ranks(by_image, owner), ranks(by_text.T, owner))
    return Evaluation(
        task="retrieval",
        split=split,
        items=len(images),
        metrics={name: 100 * share for name, share in found.items()},
        predictions=[
            {"image": image, "caption": texts[best]}
            for image, best in zip(images, by_image.argmax(axis=1), strict=True)
        ],
        skipped=album.skipped,
    )


def _embedded(
    model: Compares, images: list[str], album: Album, batch: int, progress: Progress
) -> tuple[list[str], F32]:
    """The pictures that can be read, and their unit vectors (I, E)."""
    readable: list[str] = []
    vectors: list[F32] = []
    for group in progress.track(list(groups(images, batch)), "embedding"):
        opened = [(image, album.open(image)) for image in group]
        pictures = [picture for _, picture in opened if picture is not None]
        if pictures:
            vectors.append(model.embed_image(pictures))
            readable += [image for image, picture in opened if picture is not None]
    if not readable:
        raise ArtifactError("no picture could be read")
    return readable, np.concatenate(vectors)


def _read_again(
    model: Compares,
    images: list[str],
    texts: list[str],
    cosines: F32,
    album: Album,
    k: int,
    progress: Progress,
) -> tuple[F32, F32]:
    """(I, T) scores to rank texts by image, and images by text: the first k read, others below."""
    first_texts = _first(cosines, k)  # (I, T)
    first_images = _first(cosines.T, k).T  # (I, T)
    by_image = np.full_like(cosines, _UNREAD)
    by_text = np.full_like(cosines, _UNREAD)
    for number, image in enumerate(progress.track(images, "reading", total=len(images))):
        wanted = np.flatnonzero(first_texts[number] | first_images[number])
        picture = album.open(image)
        if picture is None or not len(wanted):
            continue
        logits = model.itm_logits(picture, [texts[t] for t in wanted])[:, 1]
        scores = logits + cosines[number, wanted]
        by_image[number, wanted] = np.where(first_texts[number, wanted], scores, _UNREAD)
        by_text[number, wanted] = np.where(first_images[number, wanted], scores, _UNREAD)
    return by_image, by_text


def _first(scores: F32, k: int) -> NDArray[np.bool_]:
    """(Q, C) whether a candidate is among the k best of its query."""
    chosen = np.zeros(scores.shape, dtype=np.bool_)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.put_along_axis(chosen, best, True, axis=1)
    return chosen
