"""What a target must be able to do so that the programs of this package can run on it.

An engine encodes pictures once into what texts read of them, which stays opaque to the programs.
What it can do beyond that follows from its tasks: a captioner answers decoding steps, a matcher
compares texts with pictures, an answerer turns questions into what answers are decoded from, a
reasoner judges sentences about two pictures.
"""

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "F32",
    "I32",
    "Answerer",
    "Captioner",
    "Engine",
    "Limited",
    "Matcher",
    "Reader",
    "Reasoner",
    "Session",
    "Task",
    "Watcher",
]

# B images · F frames of a clip · R rows = B x beams · T text tokens · V vocabulary
# S image side · E shared width
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Task = Literal["caption", "retrieval", "vqa", "nlvr2"]


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
    """A BLIP on some target."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it was trained for."""
        ...

    @property
    def max_images(self) -> int:
        """How many pictures `encode` takes at once."""
        ...

    def encode(self, pixel_values: F32) -> Any:
        """(B, 3, S, S) normalised pixels to what texts read of them, keys and values ready.

        The result is opaque, and good until the next `encode`, which may reuse its memory.
        """
        ...


class Captioner(Engine, Protocol):
    """An engine whose decoder reads pictures."""

    def start(self, cross: Any, rows: int) -> Session:
        """Begin a search of R = `rows` rows, a multiple of B; row r sees image r // (R // B).

        `cross` is what `encode` gave, or `ask` if the decoder reads questions, any number of times.
        An engine serves one search at a time: sessions that were started before may not go on. That
        they do not is up to whoever asks; a loaded model takes care of it.
        """
        ...


class Reader(Engine, Protocol):
    """An engine with a text encoder."""

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that it can hold."""
        ...


class Answerer(Captioner, Reader, Protocol):
    """An engine whose decoder reads questions that have seen a picture."""

    def ask(
        self, seen: Any, input_ids: I32, attention_mask: I32, *, reads_padding: bool = False
    ) -> Any:
        """(R, T) questions that start with [ENC] to what `start` takes; row r is about image
        r // (R // B).

        With `reads_padding` the decoder reads all T states, whatever the mask says.
        """
        ...


class Matcher(Reader, Protocol):
    """An engine that compares texts with pictures."""

    def embed_image(self, seen: Any) -> F32:
        """Unit vectors (B, E)."""
        ...

    def embed_text(self, input_ids: I32, attention_mask: I32) -> F32:
        """(R, T) texts that start with [CLS] to unit vectors (R, E)."""
        ...

    def match(self, seen: Any, input_ids: I32, attention_mask: I32) -> F32:
        """(R, 2) logits, class 1 = match, of (R, T) texts that start with [ENC]; row r is about
        image r // (R // B)."""
        ...

    def with_caption(self, seen: Any, input_ids: I32, attention_mask: I32) -> Any:
        """(B, T) captions that start with [CLS], and the pictures after them: what `match` reads an
        answer in a dialog with."""
        ...


class Reasoner(Reader, Protocol):
    """An engine that judges sentences about two pictures."""

    def reason(self, seen: Any, input_ids: I32, attention_mask: I32) -> F32:
        """(B, 2) logits, class 1 = true, of (B, T) sentences that start with [ENC].

        `seen` are 2B pictures that were encoded at once, the B left ones first.
        """
        ...


@runtime_checkable
class Watcher(Protocol):
    """An engine that sees clips, frame by frame."""

    def encode_clips(self, pixel_values: F32) -> Any:
        """(B, F, 3, S, S) pixels to what `encode` gives: a clip is one image to read, the tokens of
        its frames side by side."""
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
