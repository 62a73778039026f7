"""What a metric gives, and how the captions of a data set reach it.

Metrics compare words: captions come in as they were written and are split by `metrics.ptb`.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from blip_edge.metrics.ptb import words

__all__ = ["MAX_ORDER", "Ngram", "Score", "ngrams", "tokenized"]

K = TypeVar("K", bound=Hashable)

MAX_ORDER = 4
"""The longest runs of words that BLEU and CIDEr look at."""

Ngram = tuple[str, ...]


@dataclass(frozen=True)
class Score(Generic[K]):
    """One metric over a set of captions, in the field's own unit: not yet times 100."""

    mean: float
    """Over the set: the mean of `per_item`, or for BLEU the figure of the set as one text."""
    per_item: dict[K, float]
    """Of each picture."""


def tokenized(
    candidates: Mapping[K, str], references: Mapping[K, Sequence[str]]
) -> Iterator[tuple[K, Ngram, list[Ngram]]]:
    """Yield each picture's id, the words of its candidate, and those of each reference.

    Raises:
        ValueError: nothing to score, ids that differ, or a picture without references.
    """
    if not candidates:
        raise ValueError("no captions to score")
    if candidates.keys() != references.keys():
        odd = next(iter(candidates.keys() ^ references.keys()))
        raise ValueError(f"{odd!r} has a candidate or references, but not both")
    for key, candidate in candidates.items():
        if not references[key]:
            raise ValueError(f"{key!r} has no references")
        yield key, words(candidate), [words(reference) for reference in references[key]]


def ngrams(text: Ngram) -> Counter[Ngram]:
    """How often each run of one to four words occurs."""
    found: Counter[Ngram] = Counter()
    for n in range(1, MAX_ORDER + 1):
        found.update(zip(*(text[start:] for start in range(n)), strict=False))
    return found
