"""Greedy search, sampling and beam search, once, over anything that answers decoding steps.

The semantics are those of `transformers` 5 (`generate`): the same rules on the logits in the same
order, twice as many candidates as beams, the same ranking and the same conditions to stop, in
numpy and float32. Two of its habits are worth knowing. Greedy search and sampling apply the rules
to raw logits, beam search to log-probabilities, so that a repetition penalty weighs differently in
them. And a caption that ends at `max_length` counts as complete.

Pictures of one batch never influence each other: one that is done idles until all are.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from blip_edge.errors import UsageError
from blip_edge.generation import Generation
from blip_edge.runtime.beams import beam_search
from blip_edge.runtime.engine import F32, I32, Session
from blip_edge.runtime.hypothesis import Hypothesis, prompt_length, read_hypothesis
from blip_edge.runtime.rules import apply_rules, log_softmax
from blip_edge.runtime.sampling import check_generators, draw

__all__ = [
    "Hypothesis",
    "OnToken",
    "beam_search",
    "greedy_search",
    "log_softmax",
    "sample",
    "search",
]

# B images · S sequences of each · R rows = B x S · T prompt tokens · V vocabulary
OnToken = Callable[[int, int], None]
"""Called with a picture's place in the batch and its next token, [SEP] included, when no later step
can change it any more."""

_Choose = Callable[[F32, NDArray[np.bool_]], NDArray[np.intp]]


def search(
    session: Session,
    prompt: I32,
    generation: Generation,
    *,
    generators: Sequence[np.random.Generator] | None = None,
    on_token: OnToken | None = None,
) -> list[list[Hypothesis]]:
    """Sampling, beam search or greedy search, as the settings say; see each.

    Args:
        session: of R = B x `generation.rows` rows.
        prompt: (B, T) tokens that every caption starts from.
        generation: how to search.
        generators: sampling only, one random generator per image.
        on_token: where a picture has one row: told every token as soon as it is final.

    Returns:
        `num_return_sequences` hypotheses per image, best first.

    Raises:
        UsageError: the prompt alone fills `max_length`; generators that are missing or shared;
            `on_token` with several rows per image, of which any may still be dropped.
        ArtifactError: the decoder's logits are not numbers.
    """
    if on_token is not None and generation.rows > 1:
        raise UsageError(
            "tokens can only be followed as they come with one beam and one caption per picture, "
            f"not {generation.rows}"
        )
    if generation.do_sample:
        return sample(session, prompt, generation, generators=generators or (), on_token=on_token)
    if generation.num_beams > 1:
        return beam_search(session, prompt, generation)
    return greedy_search(session, prompt, generation, on_token=on_token)


def greedy_search(
    session: Session, prompt: I32, generation: Generation, *, on_token: OnToken | None = None
) -> list[list[Hypothesis]]:
    """The likeliest next token, again and again.

    Args:
        session: of R = B rows.
        prompt: (B, T) tokens that every caption starts from.
        generation: its lengths, ids and `repetition_penalty` count.
        on_token: told every token.

    Returns:
        One hypothesis per image.

    Raises:
        UsageError: the prompt alone fills `max_length`.
        ArtifactError: the decoder's logits are not numbers.
    """

    def likeliest(scores: F32, running: NDArray[np.bool_]) -> NDArray[np.intp]:
        best: NDArray[np.intp] = scores.argmax(axis=-1)
        return best

    return [[one] for one in _extend(session, prompt, generation, likeliest, on_token)]


def sample(
    session: Session,
    prompt: I32,
    generation: Generation,
    *,
    generators: Sequence[np.random.Generator],
    on_token: OnToken | None = None,
) -> list[list[Hypothesis]]:
    """Every next token drawn at random from those that the settings leave; see `sampling`.

    Args:
        session: of R = B x num_return_sequences rows.
        prompt: (B, T) tokens that every caption starts from.
        generation: all of its fields count but those of beams.
        generators: one random generator per image. The same generators draw the same captions,
            whatever pictures are beside.
        on_token: told every token; only with one sequence per image.

    Returns:
        `num_return_sequences` hypotheses per image, that of the best `score` first. They are drawn
        independently, so that some may be equal.

    Raises:
        UsageError: the prompt alone fills `max_length`; generators that are missing or shared.
        ArtifactError: the decoder's logits are not numbers.
    """
    check_generators(generators, len(prompt))
    count = generation.num_return_sequences

    def drawn(scores: F32, running: NDArray[np.bool_]) -> NDArray[np.intp]:
        return draw(scores, running, generation, generators)

    rows = _extend(session, np.repeat(prompt, count, axis=0), generation, drawn, on_token)
    return [
        sorted(rows[first : first + count], key=lambda one: one.score, reverse=True)
        for first in range(0, len(rows), count)
    ]


def _extend(
    session: Session,
    prompt: I32,
    generation: Generation,
    choose: _Choose,
    on_token: OnToken | None,
) -> list[Hypothesis]:
    """Each of R rows by itself: one token after the other, until it has ended.

    `choose` takes (R, V) logits that the rules were applied to and the (R,) rows that are still
    running, and gives (R,) tokens, of which those of other rows are not looked at.
    """
    rows, start = len(prompt), prompt_length(prompt, generation)
    tokens = np.full((rows, generation.max_length), generation.pad_token_id, dtype=np.int32)
    tokens[:, :start] = prompt
    log_probs = np.zeros(tokens.shape, dtype=np.float32)
    lengths = np.full(rows, generation.max_length, dtype=np.intp)
    running = np.ones(rows, dtype=np.bool_)
    every, ids = np.arange(rows, dtype=np.int32), prompt
    for length in range(start, generation.max_length):
        logits = session.step(ids, every)
        own = log_softmax(logits)
        ruled = apply_rules(logits, tokens[:, :length], generation, keep=True)
        chosen = np.where(running, choose(ruled, running), generation.pad_token_id)
        tokens[:, length] = chosen
        log_probs[:, length] = own[every, chosen]
        if on_token is not None:
            for row in np.flatnonzero(running):
                on_token(int(row), int(chosen[row]))
        ended = running & (chosen == generation.eos_token_id)
        lengths[ended] = length + 1
        running &= ~ended
        if not running.any():
            break
        ids = np.ascontiguousarray(tokens[:, length : length + 1])
    return [
        read_hypothesis(tokens[row], log_probs[row], start, int(lengths[row]))
        for row in range(rows)
    ]
