"""What a metric gives, and how what was said meets what is true.

Metrics of captions compare words: captions come in as they were written and are split by
`metrics.ptb`.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Generic, TypeVar

from blip_edge.metrics.ptb import words

__all__ = ["MAX_ORDER", "Ngram", "Score", "by_group", "ngrams", "paired", "tokenized"]

K = TypeVar("K", bound=Hashable)
A = TypeVar("A")
B = TypeVar("B")
G = TypeVar("G", bound=Hashable)

MAX_ORDER = 4
"""The longest runs of words that BLEU and CIDEr look at."""

Ngram = tuple[str, ...]


@dataclass(frozen=True)
class Score(Generic[K]):
    """One metric over a set, in the field's own unit: not yet times 100."""

    mean: float
    """Over the set: the mean of `per_item`, or for BLEU the figure of the set as one text."""
    per_item: dict[K, float]
    """Of each picture, question or sentence."""


def by_group(per_item: Mapping[K, float], groups: Mapping[K, G]) -> dict[G, float]:
    """The mean of each group: of each type of question, of each domain; in order of first use.

    Raises:
        ValueError: nothing to score, or ids that differ.
    """
    values: dict[G, list[float]] = {}
    for _, value, group in paired(per_item, groups):
        values.setdefault(group, []).append(value)
    return {group: fmean(found) for group, found in values.items()}


def paired(said: Mapping[K, A], meant: Mapping[K, B]) -> Iterator[tuple[K, A, B]]:
    """Yield each item's id, what was said of it and what is known of it, in the order of `said`.

    Raises:
        ValueError: nothing to score, or ids that differ.
    """
    if not said:
        raise ValueError("nothing to score")
    if said.keys() != meant.keys():
        odd = next(iter(said.keys() ^ meant.keys()))
        raise ValueError(f"{odd!r} is on one side only: what was said and what is known differ")
    for key, value in said.items():
        yield key, value, meant[key]


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
