"""What a target must be able to do so that the search in `decoding` can run on it.

An engine encodes pictures once into cross-attention keys and values, which stay opaque to the
search, and then answers decoding steps. The cache lives in the session: the search only says which
row of the previous step each row continues.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["F32", "I32", "Engine", "Limited", "Session"]

# B images · R rows = B x beams · T text tokens · V vocabulary · S image side
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


class Session(Protocol):
    """One search under way: the decoder's cache of a fixed number of rows."""

    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        """Extend every row by T tokens and return the logits after the last one.

        Before that, row r's cache is replaced by that of row `beam_idx[r]` as the last step left
        it; the first step has no cache yet and ignores `beam_idx`.

        Args:
            input_ids: (R, T) tokens to append.
            beam_idx: (R,) rows of the previous step.

        Returns:
            (R, V) float32; the array may be reused by the next step.
        """
        ...


class Engine(Protocol):
    """A captioner on some target."""

    @property
    def max_images(self) -> int:
        """How many pictures `encode` takes at once."""
        ...

    def encode(self, pixel_values: F32) -> Any:
        """(B, 3, S, S) normalised pixels to the cross-attention keys and values of each layer.

        The result is opaque. `start` may be called on it any number of times, until the next
        `encode`, which may reuse its memory.
        """
        ...

    def start(self, cross: Any, rows: int) -> Session:
        """Begin a search of R = `rows` rows, a multiple of B; row r sees image r // (R // B).

        An engine serves one search at a time: sessions that were started before may not go on.
        """
        ...


@runtime_checkable
class Limited(Protocol):
    """An engine whose decoder was built for fixed sizes."""

    @property
    def max_rows(self) -> int:
        """Most rows that `start` can give."""
        ...

    @property
    def max_length(self) -> int:
        """Most tokens that a row can hold, prompt included."""
        ...
