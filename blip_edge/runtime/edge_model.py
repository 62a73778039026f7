"""A captioner as a program meets it: pictures in, captions out, whatever runs underneath."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
from PIL import Image

from blip_edge.errors import UsageError
from blip_edge.generation import Generation
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.decoding import Hypothesis, search
from blip_edge.runtime.engine import F32, I32, Engine, Limited
from blip_edge.text import Tokenizer

__all__ = ["Caption", "EdgeModel", "Picture"]

Picture = Path | str | Image.Image
_P = TypeVar("_P", bound=Picture)


@dataclass(frozen=True)
class Caption:
    """What a picture shows, in words."""

    text: str
    """The words after the prompt."""
    score: float
    """Mean log-probability of the generated tokens."""
    token_ids: tuple[int, ...]
    """The prompt, the generated tokens, and [SEP] unless it was cut at `max_length`."""


class EdgeModel:
    """An engine with the tokenizer, the preprocessing and the settings it was trained with.

    One model serves one thread at a time: its engine's buffers are reused.
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

    @overload
    def caption(
        self,
        image: Picture,
        *,
        beams: int | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
    ) -> Caption: ...

    @overload
    def caption(
        self,
        image: list[_P],
        *,
        beams: int | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
    ) -> list[Caption]: ...

    def caption(
        self,
        image: Picture | list[_P],
        *,
        beams: int | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
    ) -> Caption | list[Caption]:
        """Say what a picture shows; a list of pictures gives a list.

        Args:
            image: a path, a PIL picture, or a list of them.
            beams: 1 is greedy search. What is not given is as the model was saved.
            min_length: in tokens, counting the prompt.
            max_length: in tokens, counting the prompt.

        Raises:
            UsageError: lengths or beams that do not make sense or that the engine cannot hold.
            ArtifactError: a picture that cannot be read.
        """
        generation = self.generation.override(
            beams=beams, min_length=min_length, max_length=max_length
        )
        if isinstance(image, Path | str | Image.Image):
            return self._captions([image], generation)[0]
        return self._captions(list(image), generation)

    def caption_pixels(
        self, pixel_values: F32, generation: Generation | None = None
    ) -> list[Caption]:
        """Captions of pictures that are preprocessed already.

        Args:
            pixel_values: (B, 3, S, S) normalised pixels.
            generation: in place of the model's own settings.
        """
        generation = generation or self.generation
        self._check(generation)
        prompt = self._prompt(generation)
        captions: list[Caption] = []
        for first in range(0, len(pixel_values), self.engine.max_images):
            pixels = pixel_values[first : first + self.engine.max_images]
            session = self.engine.start(
                self.engine.encode(pixels), len(pixels) * generation.num_beams
            )
            prompts = np.repeat(prompt[None], len(pixels), axis=0)
            found = search(session, prompts, generation)
            captions += [self._caption(best[0], len(prompt)) for best in found]
        return captions

    def _captions(self, images: list[Picture], generation: Generation) -> list[Caption]:
        return [
            caption
            for group in _groups(images, self.engine.max_images)
            for caption in self.caption_pixels(self.preprocess(group), generation)
        ]

    def _caption(self, found: Hypothesis, start: int) -> Caption:
        return Caption(self.tokenizer.decode(found.token_ids[start:]), found.score, found.token_ids)

    def _prompt(self, generation: Generation) -> I32:
        """(T,) tokens that a caption starts from."""
        ids = self.tokenizer.prompt_ids(generation.prompt)
        ids[0] = generation.bos_token_id
        return np.asarray(ids, dtype=np.int32)

    def _check(self, generation: Generation) -> None:
        if not isinstance(self.engine, Limited):
            return
        if generation.num_beams > self.engine.max_rows:
            raise UsageError(
                f"this bundle was exported for at most {self.engine.max_rows} beams, "
                f"not {generation.num_beams}"
            )
        if generation.max_length > self.engine.max_length:
            raise UsageError(
                f"this bundle was exported for captions of at most {self.engine.max_length} "
                f"tokens, not {generation.max_length}"
            )


def _groups(images: list[Picture], size: int) -> Iterator[list[Picture]]:
    for first in range(0, len(images), size):
        yield images[first : first + size]
