"""ROUGE-L of a set of captions.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL workshop 2004,
https://aclanthology.org/W04-1013.

With L the length of the longest common subsequence of words, P the best L / candidate length and R
the best L / reference length over the references (they may come from different ones), beta = 1.2:

    ROUGE-L = (1 + beta²) · P · R / (R + beta² · P)
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from blip_edge.metrics.score import Ngram, Score, tokenized

__all__ = ["rouge_l"]

K = TypeVar("K", bound=Hashable)

_BETA = 1.2


def rouge_l(candidates: Mapping[K, str], references: Mapping[K, Sequence[str]]) -> Score[K]:
    """ROUGE-L, between 0 and 1; the set's figure is the mean of the pictures'.

    Raises:
        ValueError: nothing to score, ids that differ, or a picture without references.
    """
    per_item = {
        key: _item(candidate, texts) for key, candidate, texts in tokenized(candidates, references)
    }
    return Score(fmean(per_item.values()), per_item)


def _item(candidate: Ngram, references: list[Ngram]) -> float:
    lengths = [(_common(candidate, text), len(text)) for text in references if text]
    longest = max((length for length, _ in lengths), default=0)
    if longest == 0:
        return 0.0
    precision = longest / len(candidate)
    recall = max(length / words for length, words in lengths)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common(one: Ngram, other: Ngram) -> int:
    """Length of the longest common subsequence.

    A row of the usual table is one integer, whose zero bits are the places where the length grows
    (Hyyrö, "Bit-parallel LCS-length computation revisited", AWOCA 2004).
    """
    places: dict[str, int] = defaultdict(int)
    for place, word in enumerate(one):
        places[word] |= 1 << place
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        matched = row & places[word]
        row = ((row + matched) | (row - matched)) & full
    return (full ^ row).bit_count()
