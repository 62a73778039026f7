"""What each task of a drawn world gives to those who guess, as percentages (MRR and AUC too)."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from blip_edge.data import Dataset
from blip_edge.data.shapes import judge, read_scenes
from blip_edge.metrics import vqa_accuracy

__all__ = ["chances"]

_DRAWN = 20_000


def chances(data: Path) -> dict[str, float]:
    """By task: the headline metric of a guess that never looks at a picture."""
    dataset = Dataset.open(data)
    return {
        "caption": _captions(dataset),
        "retrieval": _retrieval(dataset),
        "vqa": _questions(dataset),
        "nlvr2": 50.0,
        "visdial": _dialogs(dataset),
        "video-retrieval": 100 / len(_lines(data / "video_retrieval_test.jsonl")),
        "video-qa": _video_questions(data),
        "attributes": _attributes(dataset),
        "pairs": 50.0,
    }


def _captions(dataset: Dataset) -> float:
    """Captions of the training split, said of test pictures."""
    rng = np.random.default_rng(0)
    texts = [text for row in dataset.captions("train") for text in row.captions]
    scenes = list(read_scenes(dataset.folder, "test").values())
    drawn = zip(
        rng.integers(len(texts), size=_DRAWN), rng.integers(len(scenes), size=_DRAWN), strict=True
    )
    return 100 * sum(judge(texts[text], scenes[scene]).true for text, scene in drawn) / _DRAWN


def _retrieval(dataset: Dataset) -> float:
    """r_mean of a random order: the chance that one of a query's own is among the first k."""
    rows = dataset.retrieval("test")
    images, texts = len(rows), sum(len(row.captions) for row in rows)
    own = texts // images
    by_text = [k / images for k in (1, 5, 10)]
    left = [np.prod([(texts - own - n) / (texts - n) for n in range(k)]) for k in (1, 5, 10)]
    by_image = [1 - float(share) for share in left]
    return 100 * sum(by_text + by_image) / 6


def _questions(dataset: Dataset) -> float:
    """The training split's most common answer to questions that begin with the same two words."""
    heard: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in dataset.questions("train"):
        heard[_sort(row.question)].update(row.answers)
    rows = dataset.questions("test")
    said = {row.question_id: heard[_sort(row.question)].most_common(1)[0][0] for row in rows}
    return 100 * vqa_accuracy(said, {row.question_id: row.answers for row in rows}).mean


def _sort(question: str) -> str:
    return " ".join(question.split()[:2])


def _dialogs(dataset: Dataset) -> float:
    """MRR of a random order."""
    sizes = [len(turn.options) for one in dataset.dialogs("val") for turn in one.rounds]
    return 100 * float(np.mean([sum(1 / place for place in range(1, n + 1)) / n for n in sizes]))


def _video_questions(data: Path) -> float:
    """One of the answers that a question has anywhere, any of them."""
    answers: defaultdict[str, set[str]] = defaultdict(set)
    rows = _lines(data / "video_qa_test.jsonl")
    for row in rows:
        answers[row["question"]].add(row["answer"])
    return 100 * float(np.mean([1 / len(answers[row["question"]]) for row in rows]))


def _attributes(dataset: Dataset) -> float:
    """mAP of a random order: how common each attribute is."""
    attributes, boxes = dataset.boxes("test")
    labels = np.asarray([box.attributes for box in boxes])
    return 100 * float(labels.mean(axis=0)[: len(attributes)].mean())


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
