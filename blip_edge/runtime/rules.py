"""What is done to a step's logits before a token is taken: log-probabilities, and the rules.

The rules are those of `transformers` 5, in its order: repetition penalty, then minimum length.
"""

import numpy as np

from blip_edge.errors import ArtifactError
from blip_edge.generation import Generation
from blip_edge.runtime.engine import F32, I32

__all__ = ["apply_rules", "log_softmax"]

# R rows · T text tokens · V vocabulary


def log_softmax(logits: F32) -> F32:
    """(R, V) logits to log-probabilities, in float32.

    Raises:
        ArtifactError: a row holds what is not a number, or nothing finite.
    """
    with np.errstate(invalid="ignore"):  # infinity minus infinity: refused two lines on
        shifted: F32 = logits - logits.max(axis=-1, keepdims=True)
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    if not np.isfinite(total).all():
        raise ArtifactError("the decoder's logits are not numbers; export the model again")
    shifted -= np.log(total)
    return shifted


def apply_rules(scores: F32, used: I32, generation: Generation, *, keep: bool) -> F32:
    """Repetition penalty, then minimum length.

    Args:
        scores: (R, V) logits or log-probabilities.
        used: (R, T) tokens so far, prompt included.
        generation: `repetition_penalty` and `min_length` count.
        keep: leave `scores` as it was.

    Returns:
        (R, V): `scores` itself where no rule applies or where it need not be kept.
    """
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
