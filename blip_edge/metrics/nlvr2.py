"""NLVR2: whether sentences were rightly called true or false of two pictures.

Suhr et al., "A Corpus for Reasoning About Natural Language Grounded in Photographs", ACL 2019,
https://arxiv.org/abs/1811.00491. A sentence is asked of several pairs of pictures, true of some and
false of others:

    accuracy    = right judgements / judgements
    consistency = sentences of which every judgement is right / sentences

Which judgements share a sentence follows from the identifier, `split-set-pair-sentence`: those that
differ in the pair only.
"""

import re
from collections.abc import Hashable, Mapping
from statistics import fmean
from typing import TypeVar

from blip_edge.metrics.score import Score, paired

__all__ = ["consistency", "judgements", "sentence_of"]

K = TypeVar("K", bound=Hashable)

_IDENTIFIER = re.compile(r"(\w+-\d+)-\d+-(\d+)")


def judgements(said: Mapping[K, bool], true: Mapping[K, bool]) -> Score[K]:
    """Accuracy; 1 or 0 for each pair of pictures and its sentence.

    Raises:
        ValueError: nothing to score, or ids that differ.
    """
    per_item = {key: float(one == other) for key, one, other in paired(said, true)}
    return Score(fmean(per_item.values()), per_item)


def consistency(per_item: Mapping[str, float]) -> Score[str] | None:
    """Of each sentence the worst of its judgements, by `split-set-sentence`.

    Args:
        per_item: `judgements(...).per_item`, by identifier.

    Returns:
        None where an identifier is not of the data set's form, so that nobody knows what belongs
        together: BLIP's own annotation files leave identifiers out.

    Raises:
        ValueError: nothing to score.
    """
    if not per_item:
        raise ValueError("nothing to score")
    worst: dict[str, float] = {}
    for identifier, right in per_item.items():
        sentence = sentence_of(identifier)
        if sentence is None:
            return None
        worst[sentence] = min(right, worst.get(sentence, 1.0))
    return Score(fmean(worst.values()), worst)


def sentence_of(identifier: str) -> str | None:
    """`split-set-sentence` of `split-set-pair-sentence`; None where an identifier is not such."""
    parts = _IDENTIFIER.fullmatch(identifier)
    return None if parts is None else f"{parts[1]}-{parts[2]}"
