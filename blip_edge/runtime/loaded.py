"""What every loaded model has, and how it takes one picture or a list of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.engine import Engine, Limited, Task
from blip_edge.text import Tokenizer

__all__ = ["Loaded", "Picture", "groups", "picture_list", "text_list"]

Picture = Path | str | Image.Image
_T = TypeVar("_T")
_P = TypeVar("_P", bound=Picture)

_ABILITIES: dict[Task, str] = {
    "caption": "caption pictures",
    "retrieval": "match texts with pictures",
    "vqa": "answer questions",
    "nlvr2": "judge sentences about two pictures",
}


class Loaded:
    """An engine with the tokenizer, the preprocessing and the settings it was trained with."""

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

    def require(self, task: Task) -> Engine:
        """The engine, if it was made for `task`.

        Raises:
            ArtifactError: it was made for other tasks.
        """
        if task not in self.engine.tasks:
            can = " and ".join(_ABILITIES[one] for one in self.engine.tasks)
            raise ArtifactError(f"this model cannot {_ABILITIES[task]}; it was trained to {can}")
        return self.engine

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


def text_list(given: str | list[str]) -> list[str]:
    """`given` as a list, whether it is one or is one text."""
    return given if isinstance(given, list) else [given]


def groups(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """`items` in order, at most `size` at a time."""
    for first in range(0, len(items), size):
        yield items[first : first + size]
