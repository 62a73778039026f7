"""BLEU-1 to BLEU-4 of a set of captions.

Papineni, Roukos, Ward, Zhu, "BLEU: a Method for Automatic Evaluation of Machine Translation",
ACL 2002, https://aclanthology.org/P02-1040.

With c the candidates' words, r the sum of the closest reference lengths (the shorter of two that
are equally close), and p_k the share of the candidates' k-grams that occur in a reference, each
counted at most as often as in the reference that has it most often:

    BLEU-n = min(1, exp(1 - r/c)) · (p_1 · … · p_n)^(1/n)

All counts are summed over the set before they are divided: the set is scored as one text.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from operator import mul
from typing import TypeVar

from blip_edge.metrics.score import MAX_ORDER, Ngram, Score, ngrams, tokenized

__all__ = ["bleu"]

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
    counts = {
        key: _count(candidate, texts) for key, candidate, texts in tokenized(candidates, references)
    }
    whole = reduce(_Counts.plus, counts.values()).scores()
    items = {key: count.scores() for key, count in counts.items()}
    one, two, three, four = (
        Score(whole[n], {key: scores[n] for key, scores in items.items()}) for n in range(MAX_ORDER)
    )
    return one, two, three, four


@dataclass(frozen=True)
class _Counts:
    """What is summed over the set; the tuples have an entry for each order."""

    words: int
    reference_words: int
    correct: tuple[int, ...]
    guessed: tuple[int, ...]

    def plus(self, other: "_Counts") -> "_Counts":
        return _Counts(
            self.words + other.words,
            self.reference_words + other.reference_words,
            tuple(map(sum, zip(self.correct, other.correct, strict=True))),
            tuple(map(sum, zip(self.guessed, other.guessed, strict=True))),
        )

    def scores(self) -> list[float]:
        ratio = (self.words + _TINY) / (self.reference_words + _SMALL)
        brevity = min(1.0, math.exp(1 - 1 / ratio)) if ratio > _SMALL else 0.0
        precisions = (
            (correct + _TINY) / (guessed + _SMALL)
            for correct, guessed in zip(self.correct, self.guessed, strict=True)
        )
        products = accumulate(precisions, mul)
        return [brevity * product ** (1 / n) for n, product in enumerate(products, 1)]


def _count(candidate: Ngram, references: list[Ngram]) -> _Counts:
    length = len(candidate)
    closest = min((len(text) for text in references), key=lambda r: (abs(r - length), r))
    seen = [ngrams(text) for text in references]
    correct = [0] * MAX_ORDER
    for ngram, count in ngrams(candidate).items():
        correct[len(ngram) - 1] += min(count, max(counts[ngram] for counts in seen))
    guessed = tuple(max(0, length - n) for n in range(MAX_ORDER))
    return _Counts(length, closest, tuple(correct), guessed)
