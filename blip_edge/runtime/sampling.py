"""Drawing tokens at random: which may be drawn, how likely each is, and by whose random numbers.

The semantics are those of `transformers` 5 (`generate` with `do_sample=True`): temperature, then
`top_k`, then `top_p`, on logits that the rules went over before. Only the random numbers differ,
which there come from one stream for a whole batch.

Here every picture has a generator of its own, so that what is drawn for it does not depend on the
pictures beside it. Its S sequences share the generator step by step: at step t, counted from 0,
sequence s takes the number t x S + s. A sequence that has ended leaves its numbers unused, so that
its end moves nobody else's; once all have ended no more are taken.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blip_edge.errors import UsageError
from blip_edge.generation import Generation
from blip_edge.runtime.engine import F32

__all__ = ["check_generators", "distribution", "draw"]

# B images · S sequences of each · R rows = B x S · V vocabulary
_F64 = NDArray[np.float64]


def draw(
    scores: F32,
    running: NDArray[np.bool_],
    generation: Generation,
    generators: Sequence[np.random.Generator],
) -> NDArray[np.intp]:
    """One token for every row that is still running.

    Args:
        scores: (R, V) logits that the rules were applied to.
        running: (R,) rows that have not ended.
        generation: `temperature`, `top_k` and `top_p` count.
        generators: one per image.

    Returns:
        (R,) tokens; 0 in rows that have ended.
    """
    count = len(running) // len(generators)
    numbers = np.zeros(len(running))
    for image, generator in enumerate(generators):
        rows = slice(image * count, (image + 1) * count)
        if running[rows].any():
            numbers[rows] = generator.random(count)
    chosen = np.zeros(len(running), dtype=np.intp)
    # Row by row: what is computed for one stays in the processor's cache.
    for row in np.flatnonzero(running):
        sums = distribution(scores[row : row + 1], generation)[0].cumsum()
        # A number below 1 times the last sum stays below it, so that a token of probability 0,
        # which adds nothing to the sum, is never drawn.
        chosen[row] = np.searchsorted(sums, numbers[row] * sums[-1], side="right")
    return chosen


def distribution(scores: F32, generation: Generation) -> _F64:
    """How likely each token is to be drawn.

    Args:
        scores: (R, V) logits; every row has a finite one.
        generation: `temperature`, `top_k` and `top_p` count.

    Returns:
        (R, V) probabilities, 0 for tokens that may not be drawn.
    """
    vocabulary = scores.shape[-1]
    weights: _F64 = scores.astype(np.float64)
    weights -= weights.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # next to no temperature: all but the best are at -inf
        weights /= generation.temperature
    if 0 < generation.top_k < vocabulary:
        place = vocabulary - generation.top_k
        last = np.partition(scores, place, axis=-1)[:, place, None]
        weights[scores < last] = -np.inf
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=-1, keepdims=True)
    if generation.top_p < 1:
        for row in weights:
            row[_beyond(row, generation.top_p)] = 0
        weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def _beyond(probabilities: _F64, top_p: float) -> NDArray[np.bool_]:
    """(V,): tokens outside the smallest set of likeliest ones that reaches `top_p`.

    Of equally likely tokens the first are in the set.
    """
    # Tokens of at most (1 - p) / V make up no more than 1 - p together, so that none of them is in
    # the set: only the others have to be sorted.
    worthy = np.flatnonzero(probabilities >= (1 - top_p) / len(probabilities))
    order = worthy[np.argsort(-probabilities[worthy], kind="stable")]
    likelier = np.cumsum(np.concatenate([[0.0], probabilities[order]]))[:-1]
    beyond = np.ones(len(probabilities), dtype=np.bool_)
    beyond[order[likelier < top_p]] = False
    return beyond


def check_generators(generators: Sequence[np.random.Generator], images: int) -> None:
    """Whether each of `images` pictures has a random generator of its own.

    Raises:
        UsageError: it does not.
    """
    if len(generators) != images:
        raise UsageError(
            f"sampling takes one random generator per picture, not {len(generators)} for {images}"
        )
    if len({id(generator) for generator in generators}) < images:
        raise UsageError("pictures may not share a random generator: give each its own")
