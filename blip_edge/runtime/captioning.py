"""Captions: pixels through an engine and a search, and back to words."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypedDict, TypeVar, Unpack, cast, overload

import numpy as np
from numpy.typing import NDArray

from blip_edge.errors import ArtifactError
from blip_edge.generation import Generation
from blip_edge.runtime.decoding import OnToken, search
from blip_edge.runtime.engine import F32, I32, Captioner
from blip_edge.runtime.hypothesis import Hypothesis
from blip_edge.runtime.loaded import Loaded, Picture, groups, picture_list
from blip_edge.runtime.picture_folder import read_ahead
from blip_edge.runtime.results import Caption

__all__ = ["Captioning", "Search", "overridden"]

# The nucleus that BLIP draws captions from (paper, section 4.3).
_TOP_P = 0.9
# Pictures of a stream that are captioned at once, where the engine takes several; more of them
# would only use more memory.
_BATCH = 16

_P = TypeVar("_P", bound=Picture)


class Search(TypedDict, total=False):
    """Settings of a search, each in place of what the model was saved with; None changes nothing.

    `beams` 1 is greedy search; `sample` draws words at random, from BLIP's nucleus of 0.9 unless
    told otherwise; lengths are in tokens and count the prompt. See `generation.Generation`.
    """

    beams: int | None
    min_length: int | None
    max_length: int | None
    length_penalty: float | None
    repetition_penalty: float | None
    sample: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None


def overridden(generation: Generation, how: Search, captions: int | None = None) -> Generation:
    """`generation` with what `how` says.

    Raises:
        UsageError: settings that do not make sense together.
    """
    if how.get("sample") and how.get("top_p") is None and how.get("top_k") is None:
        how = {**how, "top_p": _TOP_P}
    return generation.override(**how, captions=captions)


class Captioning(Loaded):
    """A model that says what pictures show."""

    @property
    def captioner(self) -> Captioner:
        """The engine, if it captions."""
        return cast(Captioner, self.require("caption"))

    @overload
    def caption(
        self,
        image: Picture,
        *,
        seed: int = 0,
        on_token: OnToken | None = None,
        **how: Unpack[Search],
    ) -> Caption: ...

    @overload
    def caption(
        self,
        image: list[_P],
        *,
        seed: int = 0,
        on_token: OnToken | None = None,
        **how: Unpack[Search],
    ) -> list[Caption]: ...

    def caption(
        self,
        image: Picture | list[_P],
        *,
        seed: int = 0,
        on_token: OnToken | None = None,
        **how: Unpack[Search],
    ) -> Caption | list[Caption]:
        """Say what a picture shows; a list of pictures gives a list.

        Args:
            image: a path, a PIL picture, or a list of them.
            seed: with `sample`, another one gives other words.
            on_token: is called with a picture's number and a token as each becomes final; not with
                beams, which may still be dropped.
            how: beams, min_length, max_length, …; see `Search`.

        Raises:
            UsageError: settings that do not make sense or that the engine cannot hold.
            ArtifactError: a picture that cannot be read, or a model that does not caption.
        """
        generation = overridden(self.generation, how)
        found = self._captions(picture_list(image), generation, seed, on_token)
        return [best[0] for best in found] if isinstance(image, list) else found[0][0]

    @overload
    def captions(
        self, image: Picture, count: int, *, seed: int = 0, **how: Unpack[Search]
    ) -> list[Caption]: ...

    @overload
    def captions(
        self, image: list[_P], count: int, *, seed: int = 0, **how: Unpack[Search]
    ) -> list[list[Caption]]: ...

    def captions(
        self, image: Picture | list[_P], count: int, *, seed: int = 0, **how: Unpack[Search]
    ) -> list[Caption] | list[list[Caption]]:
        """`count` captions of a picture, best first: the best beams, or with `sample` drawn ones.

        A list of pictures gives a list of lists. The rest is as in `caption`.
        """
        generation = overridden(self.generation, how, count)
        found = self._captions(picture_list(image), generation, seed, None)
        return found if isinstance(image, list) else found[0]

    def captions_of(
        self,
        images: Iterable[_P],
        count: int = 1,
        *,
        seed: int = 0,
        skip: Callable[[_P, ArtifactError], None] | None = None,
        **how: Unpack[Search],
    ) -> Iterator[tuple[_P, list[Caption]]]:
        """`captions` of however many pictures there are, each as soon as it has its turn.

            for path, (best, *_) in model.captions_of(Path("photos").rglob("*.jpg")):

        Pictures are read just ahead, in a thread of their own, and nothing is kept: memory does not
        grow with their number.

        Args:
            images: paths or PIL pictures; are taken as they are needed.
            count: captions of each.
            seed: with `sample`, another one gives other words.
            skip: is told of a picture that cannot be read, and it is left out; without `skip` it
                ends the work.
            how: beams, min_length, max_length, …; see `Search`.

        Returns:
            An iterator over pictures, in their order, and their captions, best first.

        Raises:
            UsageError: settings that do not make sense or that the engine cannot hold.
            ArtifactError: a model that does not caption; from the iterator: a picture that cannot
                be read.
        """
        generation = overridden(self.generation, how, count)
        self.check_limits(generation)
        size = min(_BATCH, self.captioner.max_images)
        return self._streamed(images, size, generation, seed, skip)

    def _streamed(
        self,
        images: Iterable[_P],
        size: int,
        generation: Generation,
        seed: int,
        skip: Callable[[_P, ArtifactError], None] | None,
    ) -> Iterator[tuple[_P, list[Caption]]]:
        group: list[tuple[_P, NDArray[np.uint8]]] = []
        for image, seen in read_ahead(self._pixels, images, size):
            if not isinstance(seen, ArtifactError):
                group.append((image, seen))
            elif skip is None:
                raise seen
            else:
                skip(image, seen)
            if len(group) == size:
                yield from self._said(group, generation, seed)
                group = []
        if group:
            yield from self._said(group, generation, seed)

    def _pixels(self, image: Picture) -> NDArray[np.uint8] | ArtifactError:
        """(S, S, 3) bytes: what is waiting takes little memory, however large the picture was."""
        try:
            return self.preprocess.to_uint8(image)
        except ArtifactError as error:
            return error

    def _said(
        self, group: list[tuple[_P, NDArray[np.uint8]]], generation: Generation, seed: int
    ) -> Iterator[tuple[_P, list[Caption]]]:
        pixels = self.preprocess.normalise(np.stack([seen for _, seen in group]))
        found = self._drawn(pixels, generation, seed, None)
        return zip([image for image, _ in group], found, strict=True)

    def caption_pixels(
        self, pixel_values: F32, generation: Generation | None = None
    ) -> list[Caption]:
        """The best caption of each of (B, 3, S, S) normalised pictures.

        `generation` is in place of the model's own settings.
        """
        found = self._drawn(pixel_values, generation or self.generation, 0, None)
        return [best[0] for best in found]

    def _captions(
        self,
        images: Sequence[Picture],
        generation: Generation,
        seed: int,
        on_token: OnToken | None,
    ) -> list[list[Caption]]:
        captions: list[list[Caption]] = []
        for group in groups(images, self.captioner.max_images):
            told = _counted_from(len(captions), on_token)
            captions += self._drawn(self.preprocess(group), generation, seed, told)
        return captions

    def _drawn(
        self, pixel_values: F32, generation: Generation, seed: int, on_token: OnToken | None
    ) -> list[list[Caption]]:
        """Each picture's captions; what is drawn depends on `seed` and the picture alone."""
        engine = self.captioner
        self.check_limits(generation)
        prompt = self._prompt(generation)
        captions: list[list[Caption]] = []
        for first in range(0, len(pixel_values), engine.max_images):
            pixels = pixel_values[first : first + engine.max_images]
            with self.turn:
                session = engine.start(engine.encode(pixels), len(pixels) * generation.rows)
                found = search(
                    session,
                    np.repeat(prompt[None], len(pixels), axis=0),
                    generation,
                    generators=list(_generators(pixels, seed)) if generation.do_sample else None,
                    on_token=_counted_from(first, on_token),
                )
            captions += [[self._caption(one, len(prompt)) for one in each] for each in found]
        return captions

    def _caption(self, found: Hypothesis, start: int) -> Caption:
        text = self.tokenizer.decode(found.token_ids[start:])
        return Caption(text, found.score, found.token_ids, found.log_probs)

    def _prompt(self, generation: Generation) -> I32:
        """(T,) tokens that a caption starts from."""
        ids = self.tokenizer.prompt_ids(generation.prompt)
        ids[0] = generation.bos_token_id
        return np.asarray(ids, dtype=np.int32)


def _generators(pixels: F32, seed: int) -> Iterator[np.random.Generator]:
    for picture in pixels:
        yield np.random.default_rng([seed, zlib.crc32(np.ascontiguousarray(picture).tobytes())])


def _counted_from(first: int, on_token: OnToken | None) -> OnToken | None:
    if on_token is None:
        return None
    return lambda picture, token: on_token(first + picture, token)
