"""What the picture book's test split gives to those who never look at a picture."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from blip_edge.data import Dataset
from blip_edge.metrics import bleu, cider, rouge_l

__all__ = ["guesses", "repeated", "watched"]

_DRAWS, _CANDIDATES = 20, 30


def guesses(data: Path) -> dict[str, dict[str, float]]:
    """Metrics, as percentages, of a random order and of captions said without looking."""
    heard, asked = _captions(data, "train"), _asked(data, "test")
    rng = np.random.default_rng(0)
    drawn = [
        _scores(dict(zip(asked, rng.choice(heard, size=len(asked)).tolist(), strict=True)), asked)
        for _ in range(_DRAWS)
    ]
    return {
        "random order": _random_order(len(asked)),
        "one caption for all": _scores(dict.fromkeys(asked, _best_for_all(data)), asked),
        "random training captions": {
            name: float(np.mean([scores[name] for scores in drawn])) for name in drawn[0]
        },
    }


def watched(data: Path, items: dict[str, int]) -> dict[str, float]:
    """The same, by task, for what training looks at on the way: the first `items` val rows."""
    return {task: _watched(data, task, count) for task, count in items.items()}


def _watched(data: Path, task: str, count: int) -> float:
    if task == "retrieval":
        return _random_order(count)["r_mean"]
    asked = dict([*_asked(data, "val").items()][:count])
    scores = _scores(dict.fromkeys(asked, _best_for_all(data)), asked)
    return scores["CIDEr"] + scores["BLEU-4"]


def _random_order(pairs: int) -> dict[str, float]:
    """Recall among `pairs` pictures with a text each."""
    ranked = {f"{side}_r{k}": 100 * k / pairs for side in ("txt", "img") for k in (1, 5, 10)}
    return {**ranked, "r_mean": sum(ranked.values()) / len(ranked)}


def _asked(data: Path, split: str) -> dict[str, tuple[str, ...]]:
    return {row.image: row.captions for row in Dataset.open(data).captions(split)}


@cache
def _best_for_all(data: Path) -> str:
    """The most frequent training word or caption that scores best when said of every val picture.

    Short names reward this: an article is in many of them.
    """
    heard, asked = _captions(data, "train"), _asked(data, "val")
    words = Counter(word for text in heard for word in _plain(text).split())
    often = [*words.most_common(_CANDIDATES), *Counter(heard).most_common(_CANDIDATES)]
    said = (dict.fromkeys(asked, text) for text, _ in often)
    return max(said, key=lambda all_alike: cider(all_alike, asked).mean).popitem()[1]


def _scores(said: dict[str, str], asked: Mapping[str, Sequence[str]]) -> dict[str, float]:
    agreed = bleu(said, asked)
    return {
        "CIDEr": 100 * cider(said, asked).mean,
        "BLEU-1": 100 * agreed[0].mean,
        "BLEU-4": 100 * agreed[3].mean,
        "ROUGE-L": 100 * rouge_l(said, asked).mean,
    }


def repeated(data: Path) -> int:
    """How many captions of the test split are also captions of the training split."""
    heard = {_plain(text) for text in _captions(data, "train")}
    return sum(_plain(text) in heard for text in _captions(data, "test"))


def _captions(data: Path, split: str) -> list[str]:
    return [text for row in Dataset.open(data).captions(split) for text in row.captions]


def _plain(caption: str) -> str:
    return caption.lower().rstrip(".")
