"""Beam search: `num_beams` running captions of each picture, and the best that they arrive at."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blip_edge.generation import Generation
from blip_edge.runtime.engine import F32, I32, Session
from blip_edge.runtime.hypothesis import Hypothesis, prompt_length, read_hypothesis
from blip_edge.runtime.rules import apply_rules, log_softmax

__all__ = ["beam_search"]

# B images · K beams · R rows = B x K · T prompt tokens · V vocabulary · C candidates = 2 x K
_Bool = NDArray[np.bool_]
_Index = NDArray[np.intp]


def beam_search(session: Session, prompt: I32, generation: Generation) -> list[list[Hypothesis]]:
    """The best-ranked captions among those that `num_beams` running beams arrive at.

    Args:
        session: of R = B x num_beams rows.
        prompt: (B, T) tokens that every caption starts from.
        generation: all of its fields count but those of sampling.

    Returns:
        `num_return_sequences` hypotheses per image, best first, ranked by
        sum of log-probabilities / generated tokens ** length_penalty. They are different captions,
        and fewer where a tiny vocabulary has fewer.

    Raises:
        UsageError: the prompt alone fills `max_length`.
        ArtifactError: the decoder's logits are not numbers.
    """
    start = prompt_length(prompt, generation)
    beams = _Beams(prompt, generation)
    ids = np.repeat(prompt, generation.num_beams, axis=0)
    beam_idx = np.arange(len(ids), dtype=np.int32)
    while True:
        beam_idx = beams.extend(session.step(ids, beam_idx))
        if beams.done:
            break
        ids = beams.last_tokens()
    # A first place that no caption has filled is read all the same, and refused there.
    wanted = np.maximum(beams.is_complete.sum(axis=1), 1).clip(max=generation.num_return_sequences)
    return [
        [
            read_hypothesis(
                beams.complete.tokens[b, k],
                beams.complete.log_probs[b, k],
                start,
                int(beams.complete.lengths[b, k]),
            )
            for k in range(count)
        ]
        for b, count in enumerate(wanted)
    ]


class _Candidates(NamedTuple):
    """Ways to go on, N of each image, all of them (B, N)."""

    scores: F32
    parents: _Index
    """The beams that they continue."""
    words: I32
    log_probs: F32
    """Of the words, the model's own."""


class _Complete(NamedTuple):
    """Captions that came to their end, K of each image, best first; of rank -inf where none is."""

    ranks: F32
    lengths: _Index
    tokens: I32
    log_probs: F32


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
        self.log_probs = np.zeros(self.tokens.shape, dtype=np.float32)  # the model's, unpenalised
        self.complete = _Complete(
            ranks=np.full(shape, -np.inf, dtype=np.float32),
            lengths=np.zeros(shape, dtype=np.intp),
            tokens=self.tokens.copy(),
            log_probs=self.log_probs.copy(),
        )
        self._open = np.ones(images, dtype=np.bool_)
        self._images = np.arange(images)[:, None]

    @property
    def is_complete(self) -> _Bool:
        """(B, K): whether there is a caption in that place."""
        return np.isfinite(self.complete.ranks)

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
        ruled = apply_rules(log_probs, used, self._generation, keep=penalised)
        total = ruled.reshape(images, beams, vocabulary) + self.scores[:, :, None]
        scores, flat = _largest(total.reshape(images, -1), 2 * beams)
        parents, words = flat // vocabulary, (flat % vocabulary).astype(np.int32)
        own = log_probs.reshape(total.shape)[self._images, parents, words]
        candidates = _Candidates(scores, parents, words, own)
        ends = words == self._generation.eos_token_id
        ends |= self._length + 1 == self._generation.max_length
        # Candidates beyond the first K are there to keep K beams running, never to end.
        complete = ends & (np.arange(2 * beams) < beams) & self._open[:, None]
        if complete.any():
            self._collect(candidates, complete)
        return self._advance(candidates, ends)

    def _collect(self, candidates: _Candidates, complete: _Bool) -> None:
        """Keep the best K captions of those that were complete and those that just ended."""
        ranks = candidates.scores / self._weight(self._length + 1)
        new = _Complete(
            np.where(complete, ranks, np.float32(-np.inf)),
            np.full(complete.shape, self._length + 1, dtype=np.intp),
            *self._longer(candidates),
        )
        pairs: Iterable[tuple[Any, Any]] = zip(self.complete, new, strict=True)
        both = [np.concatenate(pair, axis=1) for pair in pairs]
        order = np.argsort(-both[0], axis=1, kind="stable")[:, : self.scores.shape[1]]
        self.complete = _Complete._make(column[self._images, order] for column in both)

    def _advance(self, candidates: _Candidates, ends: _Bool) -> I32:
        """Go on with the best K candidates that have not ended, and see which images are done."""
        beams = self.scores.shape[1]
        going = np.where(ends, np.float32(-np.inf), candidates.scores)
        order = np.argsort(-going, axis=1, kind="stable")[:, :beams]
        there = candidates._replace(scores=going)
        chosen = _Candidates._make(column[self._images, order] for column in there)
        self.tokens, self.log_probs = self._longer(chosen)
        self.scores = chosen.scores
        self._length += 1
        self._close()
        return (chosen.parents + self._images * beams).reshape(-1).astype(np.int32)

    def _longer(self, candidates: _Candidates) -> tuple[I32, F32]:
        """Tokens and log-probabilities (B, N, max_length) of N candidates."""
        tokens = self.tokens[self._images, candidates.parents]
        tokens[:, :, self._length] = candidates.words
        log_probs = self.log_probs[self._images, candidates.parents]
        log_probs[:, :, self._length] = candidates.log_probs
        return tokens, log_probs

    def _close(self) -> None:
        """Close the images whose running beams can no longer get among the complete captions."""
        never, penalty = self._generation.early_stopping == "never", self._generation.length_penalty
        reach = self._generation.max_length if never and penalty > 0 else self._length
        best = self.scores[:, 0] / self._weight(reach)
        full = self.is_complete.all(axis=1)
        better = best > self.complete.ranks[:, -1]
        self._open &= ~full | (better & (self._generation.early_stopping is not True))

    def _weight(self, length: int) -> float:
        return float((length - self._start) ** self._generation.length_penalty)


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
