"""What every loaded model has, and how it takes one picture or clip, or a list of them."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

from PIL import Image

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation
from blip_edge.preprocess import Clip, Preprocess
from blip_edge.runtime.engine import Engine, Limited, Task, Watcher
from blip_edge.text import Tokenizer

__all__ = [
    "Loaded",
    "Picture",
    "Visual",
    "alike",
    "groups",
    "picture_list",
    "text_list",
    "visual_list",
]

Picture = Path | str | Image.Image
Visual = Picture | Clip
_T = TypeVar("_T")
_P = TypeVar("_P", bound=Picture)
_V = TypeVar("_V", bound=Visual)

_ABILITIES: dict[Task, str] = {
    "caption": "caption pictures",
    "retrieval": "match texts with pictures",
    "vqa": "answer questions",
    "nlvr2": "judge sentences about two pictures",
}


class Loaded:
    """An engine with the tokenizer, the preprocessing and the settings it was trained with.

    Several threads may ask one model. An engine serves one at a time, because it uses its buffers
    again: whoever asks holds `turn` from encoding pictures to the last number that is read of them.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        generation: Generation,
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.generation = generation
        # The same thread may enter twice: what asks about one thing may be part of a larger one.
        self.turn = RLock()

    def require(self, task: Task) -> Engine:
        """The engine, if it was made for `task`.

        Raises:
            ArtifactError: it was made for other tasks.
        """
        if task not in self.engine.tasks:
            can = " and ".join(_ABILITIES[one] for one in self.engine.tasks)
            raise ArtifactError(f"this model cannot {_ABILITIES[task]}; it was trained to {can}")
        return self.engine

    def encode(self, images: Sequence[Visual]) -> Any:
        """What texts read of pictures, or of clips that are `alike`; see `Engine.encode`.

        Whoever calls this holds `turn` until it is no longer read.

        Raises:
            ArtifactError: one that cannot be read, or clips for an engine that sees pictures only.
        """
        clips = [one for one in images if isinstance(one, Clip)]
        pictures = [one for one in images if not isinstance(one, Clip)]
        if not clips:
            return self.engine.encode(self.preprocess(pictures))
        if not isinstance(self.engine, Watcher):
            raise ArtifactError(
                "this bundle sees pictures and no clips; ask the model that it was exported from"
            )
        assert not pictures, "pictures and clips differ in shape"
        return self.engine.encode_clips(self.preprocess.clips(clips))

    def check_limits(self, generation: Generation) -> None:
        """Whether a decoder of fixed sizes can hold the search.

        Raises:
            UsageError: it cannot.
        """
        if not isinstance(self.engine, Limited):
            return
        rows, length = self.engine.max_rows, self.engine.max_length
        if generation.rows > rows:
            what = "captions at once" if generation.do_sample else "beams"
            raise UsageError(
                f"this bundle was exported for at most {rows} {what}, not {generation.rows}"
            )
        if generation.max_length > length:
            raise UsageError(
                f"this bundle was exported for captions of at most {length} tokens, "
                f"not {generation.max_length}"
            )


def picture_list(given: Picture | list[_P]) -> list[Picture]:
    """`given` as a list, whether it is one or is one picture."""
    return [*given] if isinstance(given, list) else [given]


def visual_list(given: Visual | list[_V]) -> list[Visual]:
    """The same where clips may be among them."""
    return [*given] if isinstance(given, list) else [given]


def alike(images: Sequence[Visual], size: int) -> Iterator[slice]:
    """Which neighbours can be encoded at once: pictures, or clips of one length.

    A clip counts as its frames; there are at most `size` of them, or one clip.
    """
    first = 0
    for frames, run in groupby(images, _frames):
        end = first + sum(1 for _ in run)
        step = max(1, size // max(1, frames))
        for start in range(first, end, step):
            yield slice(start, min(start + step, end))
        first = end


def _frames(image: Visual) -> int:
    return len(image.frames) if isinstance(image, Clip) else 0


def text_list(given: str | list[str]) -> list[str]:
    """`given` as a list, whether it is one or is one text."""
    return given if isinstance(given, list) else [given]


def groups(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """`items` in order, at most `size` at a time."""
    for first in range(0, len(items), size):
        yield items[first : first + size]
