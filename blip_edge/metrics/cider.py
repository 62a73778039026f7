"""CIDEr-D of a set of captions: the figure that papers call CIDEr.

Vedantam, Zitnick, Parikh, "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015,
https://arxiv.org/abs/1411.5726.

Each caption is a vector of its n-grams' counts times log(N / pictures whose references have the
n-gram), N pictures in all; an n-gram that no reference has counts as if one had it. For a candidate
c and the references r of its picture:

    CIDEr-D_n = 10 · mean over r of exp(-(|c| - |r|)² / (2 · 6²)) · min(c_n, r_n) · r_n / ‖c_n‖‖r_n‖
    CIDEr-D   = mean over n = 1 … 4

The result depends on the whole set, not on the picture alone: over one picture every weight is
log 1 and the score is 0. A published "133.3" is 1.333 here.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from statistics import fmean
from typing import TypeVar

from blip_edge.metrics.score import MAX_ORDER, Ngram, Score, ngrams, tokenized

__all__ = ["cider"]

K = TypeVar("K", bound=Hashable)

_SIGMA = 6.0


def cider(candidates: Mapping[K, str], references: Mapping[K, Sequence[str]]) -> Score[K]:
    """CIDEr-D, between 0 and 10; the set's figure is the mean of the pictures'.

    Raises:
        ValueError: nothing to score, ids that differ, or a picture without references.
    """
    items = list(tokenized(candidates, references))
    weigh = _Weights([texts for _, _, texts in items])
    per_item = {
        key: _item(weigh(candidate), [weigh(text) for text in texts])
        for key, candidate, texts in items
    }
    return Score(fmean(per_item.values()), per_item)


@dataclass(frozen=True)
class _Vector:
    """A caption's n-grams of all orders by weight, and the Euclidean length of each order."""

    words: int
    weights: dict[Ngram, float]
    norms: tuple[float, ...]


class _Weights:
    """How much an n-gram says: log(N / pictures that have it)."""

    def __init__(self, references: list[list[Ngram]]) -> None:
        pictures: Counter[Ngram] = Counter()
        for texts in references:
            pictures.update({ngram for text in texts for ngram in ngrams(text)})
        self._unseen = math.log(len(references))
        self._idf = {ngram: self._unseen - math.log(number) for ngram, number in pictures.items()}

    def __call__(self, text: Ngram) -> _Vector:
        weights = {
            ngram: count * self._idf.get(ngram, self._unseen)
            for ngram, count in ngrams(text).items()
        }
        squares = [0.0] * MAX_ORDER
        for ngram, weight in weights.items():
            squares[len(ngram) - 1] += weight * weight
        return _Vector(len(text), weights, tuple(map(math.sqrt, squares)))


def _item(candidate: _Vector, references: list[_Vector]) -> float:
    return 10 * fmean([_similarity(candidate, reference) for reference in references])


def _similarity(candidate: _Vector, reference: _Vector) -> float:
    """The cosine's mean over the orders, with the penalty for another length."""
    products = [0.0] * MAX_ORDER
    for ngram, said in candidate.weights.items():
        weight = reference.weights.get(ngram)
        if weight is not None:
            # Clipped: saying a rare word twice earns nothing.
            products[len(ngram) - 1] += min(said, weight) * weight
    norms = map(mul, candidate.norms, reference.norms)
    cosine = fmean([product / (norm or 1.0) for product, norm in zip(products, norms, strict=True)])
    return cosine * math.exp(-((candidate.words - reference.words) ** 2) / (2 * _SIGMA**2))
