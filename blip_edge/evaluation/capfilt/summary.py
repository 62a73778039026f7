"""What came out of bootstrapping, in figures: `capfilt.json`.

How much of each kind of text the filter dropped; how right it was, where somebody knows; how
different the new texts are from each other; which words it does not like.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from heapq import heappush, heapreplace
from math import log
from typing import Any

import numpy as np

from blip_edge.evaluation.capfilt.parts import Found
from blip_edge.evaluation.capfilt.texts import Source, Text
from blip_edge.metrics import roc_auc
from blip_edge.metrics.ptb import words

__all__ = ["Tally", "Truth"]

Truth = Callable[[str, Text], bool | None]
"""Whether a picture's text is right; None if nobody knows."""

_BINS, _SHOWN, _WORDS, _RARE = 20, 20, 10, 5
_COSINE_BINS = 40
_SOURCES: tuple[Source, ...] = ("web", "synthetic")


@dataclass
class _Kind:
    """Texts of one source."""

    texts: int = 0
    kept: int = 0
    bins: list[int] = field(default_factory=lambda: [0] * _BINS)
    cosines: list[int] = field(default_factory=lambda: [0] * _COSINE_BINS)
    """From -1 to 1."""
    confidences: list[int] = field(default_factory=lambda: [0] * _BINS)
    """Of the captioner, in what it wrote."""
    captions: Counter[str] = field(default_factory=Counter)
    grams: tuple[Counter[tuple[str, ...]], Counter[tuple[str, ...]]] = field(
        default_factory=lambda: (Counter(), Counter())
    )
    right: list[tuple[float, bool, bool]] = field(default_factory=list)
    """Probability, kept, right: of those that somebody knows."""
    sure: list[tuple[float, bool]] = field(default_factory=list)
    """The captioner's confidence, right: of the same."""


class Tally:
    """Counts what passes by; memory grows with different words and captions, not with pictures."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._kinds = {source: _Kind() for source in _SOURCES}
        self._pictures = self._skipped = self._silent = 0
        self._words: tuple[Counter[str], Counter[str]] = (Counter(), Counter())  # dropped, kept
        self._examples: dict[bool, list[tuple[str, str, Text]]] = {False: [], True: []}

    def add(self, found: Found) -> None:
        """Count a picture."""
        self._pictures += 1
        if found.skipped is not None:
            self._skipped += 1
            return
        self._silent += not any(text.kept for text in found.texts)
        for text in found.texts:
            self._count(found.name, text)

    def _count(self, picture: str, text: Text) -> None:
        kind, said = self._kinds[text.source], words(text.caption)
        kind.texts += 1
        kind.kept += text.kept
        kind.captions[" ".join(said)] += 1
        for size, grams in enumerate(kind.grams, start=1):
            grams.update(zip(*(said[start:] for start in range(size)), strict=False))
        self._words[text.kept].update(set(said))
        if text.itm is not None:
            kind.bins[_bin(text.itm, _BINS)] += 1
        if text.itc is not None:
            kind.cosines[_bin((text.itc + 1) / 2, _COSINE_BINS)] += 1
        if text.confidence is not None:
            kind.confidences[_bin(text.confidence, _BINS)] += 1
        if (right := self._truth(picture, text)) is not None:
            kind.right.append((text.itm if text.itm is not None else 1.0, text.kept, right))
            if text.confidence is not None:
                kind.sure.append((text.confidence, right))
        self._show(picture, text)

    def _show(self, picture: str, text: Text) -> None:
        """Keep the twenty whose digests are largest: by chance, but always the same ones."""
        chance = sha256(f"{picture}\0{text.caption}".encode()).hexdigest()
        shown = self._examples[text.kept]
        if len(shown) < _SHOWN:
            heappush(shown, (chance, picture, text))
        elif chance > shown[0][0]:
            heapreplace(shown, (chance, picture, text))

    def to_json(self) -> dict[str, Any]:
        """All figures; shares are between 0 and 1."""
        return {
            "pictures": self._pictures,
            "skipped": self._skipped,
            "without_text": self._silent,
            **{source: _figures(self._kinds[source]) for source in _SOURCES},
            "disliked": _disliked(*self._words),
            "examples": {
                name: [
                    {"image": picture, **text.to_json()}
                    for _, picture, text in sorted(self._examples[kept], reverse=True)
                ]
                for name, kept in (("kept", True), ("dropped", False))
            },
        }


def _figures(kind: _Kind) -> dict[str, Any]:
    found: dict[str, Any] = {
        "texts": kind.texts,
        "kept": kind.kept,
        "noise_ratio": _share(kind.texts - kind.kept, kind.texts),
        "histogram": kind.bins,
        "itc_histogram": kind.cosines,
        "confidence_histogram": kind.confidences,
        "diversity": {
            "distinct_captions": _share(len(kind.captions), kind.texts),
            **{
                f"distinct_{size}": _share(len(grams), grams.total())
                for size, grams in enumerate(kind.grams, start=1)
            },
        },
    }
    if kind.right:
        found["truth"] = _truth(kind.right)
        if (area := _area(kind.sure)) is not None:
            found["truth"]["confidence_roc_auc"] = area
    return found


def _bin(share: float, bins: int) -> int:
    """Which of the equal parts of 0 to 1 holds `share`; what is outside is in the first or last."""
    return min(bins - 1, max(0, int(share * bins)))


def _truth(known: Sequence[tuple[float, bool, bool]]) -> dict[str, Any]:
    """How many are right before and after, and how well the filter tells them apart."""
    kept = [right for _, stays, right in known if stays]
    rights = sum(right for _, _, right in known)
    found: dict[str, Any] = {
        "known": len(known),
        "right": _share(rights, len(known)),
        "right_of_kept": _share(sum(kept), len(kept)),
        "kept_of_right": _share(sum(kept), rights),
    }
    if (area := _area([(score, right) for score, _, right in known])) is not None:
        found["roc_auc"] = area
    return found


def _area(known: Sequence[tuple[float, bool]]) -> float | None:
    """How well a score tells right texts from wrong ones; None where there are no two kinds."""
    scores, labels = [score for score, _ in known], [right for _, right in known]
    return round(float(roc_auc(scores, labels)), 6) if len(set(labels)) == 2 else None


def _disliked(dropped: Counter[str], kept: Counter[str]) -> list[dict[str, Any]]:
    """Words whose texts are dropped most often, beyond what chance would do.

    By the log-odds of a word's texts being dropped against all texts', over its standard error with
    half a text added to each count.
    """
    down, up = dropped.total(), kept.total()
    if not down or not up:
        return []

    def odds(word: str) -> float:
        a, b = dropped[word] + 0.5, kept[word] + 0.5
        return (log(a / (down - a + 1)) - log(b / (up - b + 1))) / float(np.sqrt(1 / a + 1 / b))

    often = [word for word in dropped if dropped[word] + kept[word] >= _RARE]
    worst = sorted(often, key=odds, reverse=True)[:_WORDS]
    return [
        {
            "word": word,
            "texts": dropped[word] + kept[word],
            "dropped": _share(dropped[word], dropped[word] + kept[word]),
        }
        for word in worst
    ]


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None
