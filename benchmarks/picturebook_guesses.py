"""What the picture book's test split gives to those who never look at a picture."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from blip_edge.data import Dataset
from blip_edge.metrics import bleu, cider, rouge_l

__all__ = ["guesses", "repeated", "watched"]

_DRAWS = 20


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
        "most frequent training caption": _scores(dict.fromkeys(asked, _common(heard)), asked),
        "random training captions": {
            name: float(np.mean([scores[name] for scores in drawn])) for name in drawn[0]
        },
    }


def watched(data: Path) -> dict[str, float]:
    """The same for what training looks at on the way: 64 pairs, 128 pictures of the val split."""
    asked = dict([*_asked(data, "val").items()][:128])
    said = dict.fromkeys(asked, _common(_captions(data, "train")))
    scores = _scores(said, asked)
    return {
        "retrieval": _random_order(64)["r_mean"],
        "caption": scores["CIDEr"] + scores["BLEU-4"],
    }


def _random_order(pairs: int) -> dict[str, float]:
    """Recall among `pairs` pictures with a text each."""
    ranked = {f"{side}_r{k}": 100 * k / pairs for side in ("txt", "img") for k in (1, 5, 10)}
    return {**ranked, "r_mean": sum(ranked.values()) / len(ranked)}


def _asked(data: Path, split: str) -> dict[str, tuple[str, ...]]:
    return {row.image: row.captions for row in Dataset.open(data).captions(split)}


def _common(captions: list[str]) -> str:
    return Counter(captions).most_common(1)[0][0]


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
