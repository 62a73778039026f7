"""Retrieval: how often what belongs to a picture, or to a text, is among the first found.

As BLIP is measured on COCO, Flickr30k and MSRVTT (Li et al., 2022, section 5.1 and 5.6,
https://arxiv.org/abs/2201.12086): R@k is the share of queries with a right candidate in the first k
places. A picture has several texts, and the best placed counts; a text has one picture.

    r_mean of a direction = (R@1 + R@5 + R@10) / 3        r_mean = mean of both directions

    texts = text_ranks(scores, image_of)            # (I, T), (T,) -> (I,)
    images = ranks(scores.T, image_of)              # (T, I), (T,) -> (T,)
    print(100 * retrieval(texts, images)["r_mean"])

After re-ranking the two directions have two tables of scores; candidates that were not re-ranked
lie below all others, at -100 in BLIP, and tie there.

I images or clips · T texts
"""

import numpy as np
from numpy.typing import ArrayLike

from blip_edge.metrics.ranks import Ranks, indices, recall, table

__all__ = ["recalls", "retrieval", "text_ranks"]

_K = (1, 5, 10)


def text_ranks(scores: ArrayLike, image_of: ArrayLike) -> Ranks:
    """(I,): the place of the best text of each image, from 1.

    Other texts of the same image are not in its way; wrong texts that score the same are.

    Args:
        scores: (I, T), higher is better.
        image_of: (T,), the image of each text.

    Raises:
        ValueError: nothing to rank, NaN, shapes that do not fit, an image that is not there, or an
            image without texts.
    """
    given = table(scores)
    images, texts = given.shape
    owner = indices(image_of, texts, images)
    number = np.bincount(owner, minlength=images)
    if not number.all():
        raise ValueError(f"image {int(number.argmin())} has no texts, so that it has no place")
    own = given[owner, np.arange(texts)]
    # Filled from the scores themselves: a type of its own would round what is compared.
    best = np.full_like(own, own.min(), shape=images)
    np.maximum.at(best, owner, own)
    no_less: Ranks = np.count_nonzero(given >= best[:, None], axis=1)
    right = np.bincount(owner[own == best[owner]], minlength=images)
    places: Ranks = no_less - right + 1
    return places


def recalls(places: ArrayLike, name: str) -> dict[str, float]:
    """`{name}_r1`, `{name}_r5`, `{name}_r10` and their mean `{name}_r_mean`, as shares.

    Args:
        places: of the queries, from 1.
        name: what is looked for: txt, img or vid.

    Raises:
        ValueError: no places.
    """
    shares = {f"{name}_r{k}": recall(places, k) for k in _K}
    return shares | {f"{name}_r_mean": sum(shares.values()) / len(_K)}


def retrieval(texts: ArrayLike, images: ArrayLike, *, name: str = "img") -> dict[str, float]:
    """Both directions and their mean `r_mean`, as shares.

    Args:
        texts: (I,), places of texts among all, asked with an image.
        images: (T,), places of images among all, asked with a text.
        name: of the second direction: img, or vid where clips are looked for.

    Raises:
        ValueError: no places.
    """
    found = recalls(texts, "txt") | recalls(images, name)
    return found | {"r_mean": (found["txt_r_mean"] + found[f"{name}_r_mean"]) / 2}
