"""Accuracy where there is one right answer: video questions, and other lists of single answers.

Xu et al., "Video Question Answering via Gradually Refined Attention over Appearance and Motion",
ACM Multimedia 2017 (MSRVTT-QA, MSVD-QA): the share of predictions that equal the answer, here as
BLIP is measured after lower-casing both and nothing else.
"""

from collections.abc import Hashable, Mapping
from statistics import fmean
from typing import TypeVar

from blip_edge.metrics.score import Score, paired

__all__ = ["exact_match"]

K = TypeVar("K", bound=Hashable)


def exact_match(predictions: Mapping[K, str], answers: Mapping[K, str]) -> Score[K]:
    """The share of predictions that are the answer; 1 or 0 for each.

    Raises:
        ValueError: nothing to score, or ids that differ.
    """
    per_item = {
        key: float(said.lower() == answer.lower())
        for key, said, answer in paired(predictions, answers)
    }
    return Score(fmean(per_item.values()), per_item)
