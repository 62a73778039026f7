"""What every search starts from and what it comes back with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation
from blip_edge.runtime.engine import F32, I32

__all__ = ["Hypothesis", "prompt_length", "read_hypothesis"]


@dataclass(frozen=True)
class Hypothesis:
    """A complete caption."""

    token_ids: tuple[int, ...]
    """The prompt, the generated tokens, and [SEP] unless it was cut at `max_length`."""
    log_probs: tuple[float, ...]
    """Log-probability of each generated token under the model alone: no penalty, no temperature
    and no choice of tokens is in it."""

    @property
    def score(self) -> float:
        """Mean of `log_probs`."""
        return sum(self.log_probs) / len(self.log_probs)


def prompt_length(prompt: I32, generation: Generation) -> int:
    """T of a (B, T) prompt.

    Raises:
        UsageError: it leaves no room for a caption.
    """
    start = int(prompt.shape[1])
    if start >= generation.max_length:
        raise UsageError(
            f"max_length {generation.max_length} counts the prompt, which has {start} tokens: "
            f"give at least {start + 1}"
        )
    return start


def read_hypothesis(tokens: I32, log_probs: F32, start: int, length: int) -> Hypothesis:
    """The caption in a row that has room for more: its first `length` tokens.

    Raises:
        ArtifactError: there is none, or a token was taken that the decoder rules out.
    """
    generated: NDArray[np.float32] = log_probs[start:length]
    if not generated.size or not np.isfinite(generated).all():
        raise ArtifactError("the decoder leaves no token to go on with; export the model again")
    return Hypothesis(tuple(tokens[:length].tolist()), tuple(generated.tolist()))
