"""BLEU-1 to BLEU-4 of a set of captions.

Papineni, Roukos, Ward, Zhu, "BLEU: a Method for Automatic Evaluation of Machine Translation",
ACL 2002, https://aclanthology.org/P02-1040.

With c the candidates' words, r the sum of the closest reference lengths (the shorter of two that
are equally close), and p_k the share of the candidates' k-grams that occur in a reference, each
counted at most as often as in the reference that has it most often:

    BLEU-n = min(1, exp(1 - r/c)) · (p_1 · … · p_n)^(1/n)

All counts are summed over the set before they are divided: the set is scored as one text. So BLEU
is a function of sums over the pictures, which `bleu_counts` and `bleu_of` give for an interval.

N pictures
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blip_edge.metrics.score import MAX_ORDER, Ngram, Score, ngrams, tokenized

__all__ = ["bleu", "bleu_counts", "bleu_of"]

K = TypeVar("K", bound=Hashable)

# As the field adds them: without a common k-gram the score is close to 0, not undefined.
_TINY, _SMALL = 1e-15, 1e-9


def bleu(
    candidates: Mapping[K, str], references: Mapping[K, Sequence[str]]
) -> tuple[Score[K], Score[K], Score[K], Score[K]]:
    """BLEU-1, BLEU-2, BLEU-3 and BLEU-4, each between 0 and 1.

    `mean` is the set's BLEU, which is not the mean of the pictures' own in `per_item`.

    Raises:
        ValueError: nothing to score, ids that differ, or a picture without references.
    """
    counts = bleu_counts(candidates, references)
    whole, items = bleu_of(counts.sum(axis=0)).tolist(), bleu_of(counts).T.tolist()
    one, two, three, four = (
        Score(whole[n], dict(zip(candidates, items[n], strict=True))) for n in range(MAX_ORDER)
    )
    return one, two, three, four


def bleu_counts(
    candidates: Mapping[K, str], references: Mapping[K, Sequence[str]]
) -> NDArray[np.int64]:
    """(N, 10): what is summed: c, r, and for each order the k-grams that are right and all of them.

    Raises:
        ValueError: nothing to score, ids that differ, or a picture without references.
    """
    items = tokenized(candidates, references)
    return np.array([_count(candidate, texts) for _, candidate, texts in items], dtype=np.int64)


def bleu_of(counts: ArrayLike) -> NDArray[np.float64]:
    """(…, 4): BLEU-1 to BLEU-4 of counts or sums of counts (…, 10)."""
    given = np.asarray(counts, dtype=np.float64)
    words, reference_words, right, said = np.split(given, [1, 2, 2 + MAX_ORDER], axis=-1)
    ratio = (words + _TINY) / (reference_words + _SMALL)
    brevity = np.where(ratio > _SMALL, np.exp(np.minimum(0, 1 - 1 / ratio)), 0)
    precisions = (right + _TINY) / (said + _SMALL)
    orders = np.arange(1, MAX_ORDER + 1)
    scores: NDArray[np.float64] = brevity * np.cumprod(precisions, axis=-1) ** (1 / orders)
    return scores


def _count(candidate: Ngram, references: list[Ngram]) -> list[int]:
    length = len(candidate)
    closest = min((len(text) for text in references), key=lambda r: (abs(r - length), r))
    seen = [ngrams(text) for text in references]
    right = [0] * MAX_ORDER
    for ngram, count in ngrams(candidate).items():
        right[len(ngram) - 1] += min(count, max(counts[ngram] for counts in seen))
    said = [max(0, length - n) for n in range(MAX_ORDER)]
    return [length, closest, *right, *said]
