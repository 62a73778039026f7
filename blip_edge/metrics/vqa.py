"""VQA accuracy: an answer is right if three of the other nine people said so too.

Antol et al., "VQA: Visual Question Answering", ICCV 2015, https://arxiv.org/abs/1505.00468;
https://visualqa.org/evaluation.html. With m of the n people's answers equal to the prediction, the
mean over the people, each left out once, of min(1, matches among the others / 3) is

    accuracy = (m · min(1, (m - 1) / 3) + (n - m) · min(1, m / 3)) / n

and the set's figure is the mean of the questions'. The prediction is normalised
(`metrics.answers`); people's answers only lose their punctuation, and only if they are not all the
same. So "the cat" can never be right where people said "the cat": annotations have to be written as
VQA's are, with digits and without articles, or to be scored with `symmetric`.
"""

from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from blip_edge.metrics.answers import bare, normalised, unpunctuated
from blip_edge.metrics.score import Score, paired

__all__ = ["vqa_accuracy"]

K = TypeVar("K", bound=Hashable)

_FEWEST = 4


def vqa_accuracy(
    predictions: Mapping[K, str],
    answers: Mapping[K, Sequence[str]],
    *,
    symmetric: bool = False,
) -> Score[K]:
    """Accuracy between 0 and 1; `score.by_group` divides it by types of questions or answers.

    Args:
        predictions: one answer a question.
        answers: people's answers a question, ten in VQA.
        symmetric: the rule of the challenge's evaluator in its later version, not in the one that
            BLIP's authors use: people's answers are normalised as the prediction is, and neither
            is if people all said the same.

    Raises:
        ValueError: nothing to score, ids that differ, or fewer than four answers to a question:
            even the perfect one could not find three others.
    """
    rule = _alike if symmetric else _as_measured
    per_item: dict[K, float] = {}
    for key, said, people in paired(predictions, answers):
        if len(people) < _FEWEST:
            raise ValueError(f"{key!r} has {len(people)} answers, not at least {_FEWEST}")
        per_item[key] = _accuracy(*rule(said, people))
    return Score(fmean(per_item.values()), per_item)


def _as_measured(said: str, people: Sequence[str]) -> tuple[str, Sequence[str]]:
    agreed = len(set(people)) == 1
    return normalised(said), people if agreed else [unpunctuated(answer) for answer in people]


def _alike(said: str, people: Sequence[str]) -> tuple[str, Sequence[str]]:
    plain = [bare(answer) for answer in people]
    if len(set(plain)) == 1:
        return bare(said), plain
    return normalised(said), [normalised(answer) for answer in plain]


def _accuracy(said: str, people: Sequence[str]) -> float:
    n = len(people)
    m = sum(answer == said for answer in people)
    return (m * min(1.0, (m - 1) / 3) + (n - m) * min(1.0, m / 3)) / n
