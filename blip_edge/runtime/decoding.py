"""Greedy and beam search, once, in numpy, over anything that answers decoding steps.

The semantics are those of `transformers` 5 (`generate` with `do_sample=False`): the same rules on
the logits in the same order, twice as many candidates as beams, the same ranking and the same
conditions to stop, in float32. Two of its habits are worth knowing. Greedy search applies the
rules to raw logits, beam search to log-probabilities, so that a repetition penalty weighs
differently in the two. And a caption that ends at `max_length` counts as complete.

Pictures of one batch never influence each other: one that is done idles until all are.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation
from blip_edge.runtime.engine import F32, I32, Session

__all__ = ["Hypothesis", "beam_search", "greedy_search", "log_softmax", "search"]

# B images · K beams · R rows = B x K · T prompt tokens · V vocabulary · C candidates = 2 x K
_Bool = NDArray[np.bool_]
_Index = NDArray[np.intp]
_A = TypeVar("_A", bound=np.generic)


@dataclass(frozen=True)
class Hypothesis:
    """A complete caption."""

    token_ids: tuple[int, ...]
    """The prompt, the generated tokens, and [SEP] unless it was cut at `max_length`."""
    score: float
    """Mean log-probability of the generated tokens under the model alone: neither the length
    penalty nor the repetition penalty is in it."""


def search(session: Session, prompt: I32, generation: Generation) -> list[Hypothesis]:
    """Greedy search for one beam, beam search for more; see both."""
    return (greedy_search if generation.num_beams == 1 else beam_search)(
        session, prompt, generation
    )


def greedy_search(session: Session, prompt: I32, generation: Generation) -> list[Hypothesis]:
    """The likeliest next token, again and again.

    Args:
        session: of R = B rows.
        prompt: (B, T) tokens that every caption starts from.
        generation: `num_beams` and `length_penalty` are not looked at.

    Returns:
        One hypothesis per image.

    Raises:
        UsageError: the prompt alone fills `max_length`.
        ArtifactError: the decoder's logits are not numbers.
    """
    images, start = _prompt_shape(prompt, generation)
    tokens = np.full((images, generation.max_length), generation.pad_token_id, dtype=np.int32)
    tokens[:, :start] = prompt
    sums = np.zeros(images, dtype=np.float32)
    lengths = np.full(images, generation.max_length, dtype=np.intp)
    running = np.ones(images, dtype=np.bool_)
    rows, ids = np.arange(images, dtype=np.int32), prompt
    for length in range(start, generation.max_length):
        logits = session.step(ids, rows)
        ruled = _rule(logits, tokens[:, :length], generation, keep=True)
        chosen = np.where(running, ruled.argmax(axis=-1), generation.pad_token_id)
        sums += np.where(running, log_softmax(logits)[rows, chosen], np.float32(0))
        tokens[:, length] = chosen
        ended = running & (chosen == generation.eos_token_id)
        lengths[ended] = length + 1
        running &= ~ended
        if not running.any():
            break
        ids = np.ascontiguousarray(tokens[:, length : length + 1])
    return [
        _hypothesis(tokens[b], int(lengths[b]), start, float(sums[b]), bool(np.isfinite(sums[b])))
        for b in range(images)
    ]


def beam_search(session: Session, prompt: I32, generation: Generation) -> list[Hypothesis]:
    """The best-ranked caption among those that `num_beams` running beams arrive at.

    Args:
        session: of R = B x num_beams rows.
        prompt: (B, T) tokens that every caption starts from.
        generation: all of its fields count.

    Returns:
        The best hypothesis per image, ranked by
        sum of log-probabilities / generated tokens ** length_penalty.

    Raises:
        UsageError: the prompt alone fills `max_length`.
        ArtifactError: the decoder's logits are not numbers.
    """
    images, start = _prompt_shape(prompt, generation)
    beams = _Beams(prompt, generation)
    ids = np.repeat(prompt, generation.num_beams, axis=0)
    beam_idx = np.arange(len(ids), dtype=np.int32)
    while True:
        beam_idx = beams.extend(session.step(ids, beam_idx))
        if beams.done:
            break
        ids = beams.last_tokens()
    return [
        _hypothesis(
            beams.complete[b, 0],
            int(beams.complete_lengths[b, 0]),
            start,
            float(beams.complete_sums[b, 0]),
            bool(beams.is_complete[b, 0]),
        )
        for b in range(images)
    ]


class _Beams:
    """Running beams and complete captions of B images; one `extend` per step.

    Both are kept best first. A beam that does not exist yet has score -inf.
    """

    def __init__(self, prompt: I32, generation: Generation) -> None:
        images, self._start = prompt.shape
        shape = (images, generation.num_beams)
        self._generation = generation
        self._length = self._start
        self.tokens = np.full(
            (*shape, generation.max_length), generation.pad_token_id, dtype=np.int32
        )
        self.tokens[:, :, : self._start] = prompt[:, None]
        # All beams start equal: only the first may propose, or all would propose the same.
        self.scores = np.full(shape, -np.inf, dtype=np.float32)
        self.scores[:, 0] = 0
        self.sums = np.zeros(shape, dtype=np.float32)  # the model's own, without penalties
        self.complete = self.tokens.copy()
        self.complete_ranks = np.full(shape, -np.inf, dtype=np.float32)
        self.complete_sums = np.zeros(shape, dtype=np.float32)
        self.complete_lengths = np.zeros(shape, dtype=np.intp)
        self._open = np.ones(images, dtype=np.bool_)

    @property
    def is_complete(self) -> _Bool:
        """(B, K): whether there is a caption in that place."""
        return np.isfinite(self.complete_ranks)

    @property
    def done(self) -> bool:
        """Whether no image can still get a better caption."""
        return self._length == self._generation.max_length or not self._open.any()

    def last_tokens(self) -> I32:
        """(R, 1): what the next step is fed."""
        return np.ascontiguousarray(self.tokens[:, :, self._length - 1].reshape(-1, 1))

    def extend(self, logits: F32) -> I32:
        """Take (R, V) logits; return (R,): the row that each new row continues."""
        images, beams = self.scores.shape
        vocabulary = logits.shape[-1]
        log_probs = log_softmax(logits)
        used = self.tokens[:, :, : self._length].reshape(images * beams, -1)
        penalised = self._generation.repetition_penalty != 1.0
        ruled = _rule(log_probs, used, self._generation, keep=penalised)
        total = ruled.reshape(images, beams, vocabulary) + self.scores[:, :, None]
        scores, flat = _largest(total.reshape(images, -1), 2 * beams)
        parents, words = flat // vocabulary, (flat % vocabulary).astype(np.int32)
        sums = scores  # what was accumulated is the model's own unless it was penalised
        if penalised:
            image = np.arange(images)[:, None]
            own = log_probs.reshape(images, beams, vocabulary)[image, parents, words]
            sums = np.take_along_axis(self.sums, parents, axis=1) + own
        tokens = np.take_along_axis(self.tokens, parents[:, :, None], axis=1)  # (B, C, max_length)
        tokens[:, :, self._length] = words
        self._length += 1
        ends = words == self._generation.eos_token_id
        ends |= self._length == self._generation.max_length
        self._collect(tokens, scores, sums, ends)
        return self._advance(tokens, scores, sums, ends, parents)

    def _collect(self, tokens: I32, scores: F32, sums: F32, ends: _Bool) -> None:
        """Keep the best K captions of those that were complete and those that just ended."""
        beams = self.scores.shape[1]
        ranks = scores / self._weight(self._length)
        # Candidates beyond the first K are there to keep K beams running, never to end.
        ends = ends & (np.arange(ends.shape[1]) < beams) & self._open[:, None]
        ranks = np.where(ends, ranks, np.float32(-np.inf))
        merged = np.concatenate([self.complete_ranks, ranks], axis=1)
        order = np.argsort(-merged, axis=1, kind="stable")[:, :beams]
        lengths = np.full(ends.shape, self._length, dtype=np.intp)
        self.complete_ranks = np.take_along_axis(merged, order, axis=1)
        self.complete_sums = _pick(self.complete_sums, sums, order)
        self.complete_lengths = _pick(self.complete_lengths, lengths, order)
        everything = np.concatenate([self.complete, tokens], axis=1)
        self.complete = np.take_along_axis(everything, order[:, :, None], axis=1)

    def _advance(self, tokens: I32, scores: F32, sums: F32, ends: _Bool, parents: _Index) -> I32:
        """Go on with the best K candidates that have not ended, and see which images are done."""
        images, beams = self.scores.shape
        going = np.where(ends, np.float32(-np.inf), scores)
        order = np.argsort(-going, axis=1, kind="stable")[:, :beams]
        self.scores = np.take_along_axis(going, order, axis=1)
        self.sums = np.take_along_axis(sums, order, axis=1)
        self.tokens = np.take_along_axis(tokens, order[:, :, None], axis=1)
        self._close()
        rows = np.take_along_axis(parents, order, axis=1) + np.arange(images)[:, None] * beams
        return rows.reshape(-1).astype(np.int32)

    def _close(self) -> None:
        """Close the images whose running beams can no longer get among the complete captions."""
        never, penalty = self._generation.early_stopping == "never", self._generation.length_penalty
        reach = self._generation.max_length if never and penalty > 0 else self._length
        best = self.scores[:, 0] / self._weight(reach)
        full = self.is_complete.all(axis=1)
        better = best > self.complete_ranks[:, -1]
        self._open &= ~full | (better & (self._generation.early_stopping is not True))

    def _weight(self, length: int) -> float:
        return float((length - self._start) ** self._generation.length_penalty)


def _prompt_shape(prompt: I32, generation: Generation) -> tuple[int, int]:
    images, start = prompt.shape
    if start >= generation.max_length:
        raise UsageError(
            f"max_length {generation.max_length} counts the prompt, which has {start} tokens: "
            f"give at least {start + 1}"
        )
    return images, start


def _hypothesis(tokens: I32, length: int, start: int, total: float, complete: bool) -> Hypothesis:
    if not complete:
        raise ArtifactError("the decoder's logits are not numbers; export the model again")
    return Hypothesis(tuple(tokens[:length].tolist()), total / (length - start))


def log_softmax(logits: F32) -> F32:
    """(R, V) logits to log-probabilities, in float32."""
    shifted: F32 = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def _rule(scores: F32, used: I32, generation: Generation, *, keep: bool) -> F32:
    """Repetition penalty, then minimum length, on (R, V); `keep` leaves `scores` as it was."""
    penalty, early = generation.repetition_penalty, used.shape[1] < generation.min_length
    if keep and (penalty != 1.0 or early):
        scores = scores.copy()
    if penalty != 1.0:
        seen = np.take_along_axis(scores, used, axis=1)
        seen = np.where(seen < 0, seen * penalty, seen / penalty).astype(np.float32)
        np.put_along_axis(scores, used, seen, axis=1)
    if early:
        scores[:, generation.eos_token_id] = -np.inf
    return scores


def _largest(values: F32, count: int) -> tuple[F32, _Index]:
    """The `count` largest of each row, largest first, and where they are; `values` is used up.

    Where fewer are finite, the rest is -inf.
    """
    images = np.arange(len(values))
    where = np.empty((len(values), count), dtype=np.intp)
    best = np.empty((len(values), count), dtype=np.float32)
    # For a dozen out of 90,000, repeated argmax takes a twentieth of what argpartition does, and
    # of equal values it takes the first.
    for rank in range(count):
        where[:, rank] = values.argmax(axis=1)
        best[:, rank] = values[images, where[:, rank]]
        values[images, where[:, rank]] = -np.inf
    return best, where


def _pick(old: NDArray[_A], new: NDArray[_A], order: _Index) -> NDArray[_A]:
    return np.take_along_axis(np.concatenate([old, new], axis=1), order, axis=1)
