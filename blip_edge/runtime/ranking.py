"""Which of given answers a question's decoder finds likeliest: BLIP's ranking of VQA answers.

One step on [DEC] alone gives the probability of every answer's first token, and the `k` best by it
stay. Those are then read out whole, token by token, all side by side, and compared by their summed
log-probability, [SEP] included and not divided by the length. An answer that begins with an
unlikely token is therefore never looked at again, however likely its rest; and answers that share
their first token get in or stay out together, but for the last places, which the earlier ones take.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blip_edge.errors import UsageError
from blip_edge.generation import Generation
from blip_edge.runtime.engine import F32, Session
from blip_edge.runtime.rules import log_softmax

__all__ = ["Ranked", "rank"]

# A answers · R rows, at most A · T tokens of the longest answer · V vocabulary
_F64 = NDArray[np.float64]
_Index = NDArray[np.intp]
_Answer = tuple[int, ...]


@dataclass(frozen=True)
class Ranked:
    """An answer that was read out whole."""

    index: int
    """Its place among the candidates, counted from 0."""
    log_prob: float
    """Log-probability of the answer given the question: the sum over its tokens and [SEP]. With
    label smoothing: the negative of the smoothed loss in its place."""
    probability: float
    """Share of this answer among all that were read out; they add up to 1."""


def rank(
    start: Callable[[int], Session],
    candidates: Sequence[Sequence[int]],
    generation: Generation,
    *,
    k: int = 128,
    max_rows: int | None = None,
    label_smoothing: float = 0.0,
) -> list[Ranked]:
    """Rank answers to one question.

    Args:
        start: begins a session of that many rows, all of them for this question. It is called for
            [DEC] and then for every `max_rows` answers, when the session before has served.
        candidates: token ids of each answer, without [DEC] and with the final [SEP]. One that
            repeats an earlier one is the same answer and left out.
        generation: its ids of [DEC], [SEP] and padding count.
        k: how many answers are read out whole.
        max_rows: most rows of a session; None is no limit.
        label_smoothing: ε of the loss (1 - ε) x -log p(token) - ε x mean of log p over V. BLIP's
            own program ranks by its training loss and so with 0.1; 0 ranks by probability.

    Returns:
        min(k, different answers) of them, best first; of equal ones the earlier comes first.

    Raises:
        UsageError: no candidates, one that is empty or does not end in [SEP], or settings that
            make no sense.
        ArtifactError: the decoder's logits are not numbers.
    """
    if k < 1:
        raise UsageError(f"k must be at least 1, got {k}")
    if not 0 <= label_smoothing < 1:
        raise UsageError(f"label_smoothing must be at least 0 and below 1, got {label_smoothing}")
    places = _different(candidates, generation.eos_token_id)
    answers = list(places)
    begin = np.asarray([[generation.bos_token_id]], dtype=np.int32)
    first = log_softmax(start(1).step(begin, np.zeros(1, dtype=np.int32)))  # (1, V)
    firsts = np.asarray([answer[0] for answer in answers], dtype=np.intp)  # (A,)
    best = np.argsort(-first[0, firsts], kind="stable")[:k]
    scores = _scores(first, np.zeros_like(best), firsts[best], label_smoothing)
    # Answers of like lengths go together, so that few rows idle until the longest of them is done.
    order = np.argsort([len(answers[n]) for n in best], kind="stable")
    for at in range(0, len(order), max_rows or len(order)):
        chunk = order[at : at + (max_rows or len(order))]
        rest = [answers[n] for n in best[chunk]]
        scores[chunk] += _read_out(start(len(rest)), rest, generation, label_smoothing)
    return _best_first([places[answers[n]] for n in best], scores)


def _different(candidates: Sequence[Sequence[int]], sep: int) -> dict[_Answer, int]:
    """Each answer and the place where it comes first."""
    if not candidates:
        raise UsageError("there are no answers to rank")
    places: dict[_Answer, int] = {}
    for place, candidate in enumerate(candidates):
        answer = tuple(candidate)
        if answer.count(sep) != 1 or answer[-1] != sep:
            raise UsageError(f"answer {place} (counted from 0) does not end in its only [SEP]")
        if len(answer) == 1:
            raise UsageError(f"answer {place} (counted from 0) has no words")
        places.setdefault(answer, place)
    return places


def _read_out(
    session: Session, answers: list[_Answer], generation: Generation, smoothing: float
) -> _F64:
    """(R,) scores of R answers' tokens after their first; those that are done idle on padding."""
    rows, lengths = np.arange(len(answers)), np.asarray([len(answer) for answer in answers])
    tokens = np.full((len(answers), lengths.max()), generation.pad_token_id, dtype=np.int32)
    for row, answer in enumerate(answers):
        tokens[row, : len(answer)] = answer
    scores = np.zeros(len(answers))
    begin = np.full_like(tokens[:, :1], generation.bos_token_id)
    ids = np.concatenate([begin, tokens[:, :1]], axis=1)
    for n in range(1, tokens.shape[1]):
        log_probs = log_softmax(session.step(ids, rows.astype(np.int32)))  # (R, V)
        going = rows[lengths > n]
        scores[going] += _scores(log_probs, going, tokens[going, n].astype(np.intp), smoothing)
        ids = np.ascontiguousarray(tokens[:, n : n + 1])
    return scores


def _scores(log_probs: F32, rows: _Index, tokens: _Index, smoothing: float) -> _F64:
    """What each of `tokens` adds, by the log-probabilities in the row of (R, V) beside it."""
    own: _F64 = log_probs[rows, tokens].astype(np.float64)
    if not smoothing:
        return own
    mean: _F64 = log_probs.mean(axis=1, dtype=np.float64)[rows]
    return (1 - smoothing) * own + smoothing * mean


def _best_first(places: list[int], scores: _F64) -> list[Ranked]:
    weights = np.exp(scores - scores.max())
    shares = weights / weights.sum()
    ranked = [
        Ranked(place, float(score), float(share))
        for place, score, share in zip(places, scores, shares, strict=True)
    ]
    return sorted(ranked, key=lambda one: (-one.log_prob, one.index))
