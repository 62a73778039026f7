"""Captioners and filters at work on pictures, each of which is decoded once.

A model computes a picture's keys and values once, whatever number of texts it writes or reads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from PIL import Image

from blip_edge.artifact import sha256_folder
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.capfilt.recipe import CapfiltRecipe
from blip_edge.evaluation.capfilt.texts import Text, judged, unlike
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.engine import Task
from blip_edge.runtime.load import load
from blip_edge.runtime.results import Caption, Match

__all__ = ["Bootstrap", "Captions", "Looked", "Matches", "Named", "opened", "squashed"]


class Captions(Protocol):
    """What writes; an `EdgeModel` does."""

    preprocess: Preprocess

    def captions(
        self, image: list[Image.Image], count: int, *, seed: int = 0, **how: Any
    ) -> list[list[Caption]]:
        """`count` captions of each picture."""
        ...


class Matches(Protocol):
    """What judges; an `EdgeModel` does."""

    preprocess: Preprocess

    def match(self, image: Image.Image, texts: Sequence[str]) -> list[Match]:
        """One match a text."""
        ...


@dataclass(frozen=True)
class Named:
    """A model and the sha256 of its folder."""

    model: Any
    sha256: str


@dataclass(frozen=True)
class Looked:
    """A picture at the sizes that the models see, and the texts that the web has of it."""

    squares: dict[int, Image.Image]
    texts: tuple[str, ...]


def squashed(image: Image.Image, sizes: Sequence[int]) -> dict[int, Image.Image]:
    """An RGB picture as the square of each size, to which it would be squashed anyway."""
    return {size: Image.fromarray(Preprocess(size=size).to_uint8(image)) for size in sizes}


def opened(
    folders: Sequence[Path], task: Task, threads: int | None, digests: Sequence[str] | None = None
) -> list[Named]:
    """Open models or bundles that can do `task`; their sums are computed unless they are known.

    Raises:
        ArtifactError: a folder is neither, or was made for something else.
        MissingExtraError: the package that runs one is not installed.
    """
    digests = digests or [sha256_folder(Path(folder)) for folder in folders]
    found = []
    for folder, digest in zip(folders, digests, strict=True):
        model = load(Path(folder), threads=threads)
        try:
            model.require(task)
        except ArtifactError as error:
            role = "captioner" if task == "caption" else "filter"
            raise ArtifactError(f"{folder} cannot be a {role}: {error}") from None
        found.append(Named(model, digest))
    return found


@dataclass(frozen=True)
class Bootstrap:
    """Captioners and filters, either of which may be missing, and how they work."""

    captioners: Sequence[Named]
    filters: Sequence[Named]
    recipe: CapfiltRecipe
    seed: int = 0

    @classmethod
    def open(
        cls,
        captioners: Sequence[Path],
        filters: Sequence[Path],
        recipe: CapfiltRecipe,
        seed: int,
        threads: int | None = None,
        digests: dict[Path, str] | None = None,
    ) -> Self:
        """From the models' folders; see `opened`."""
        known = digests or {}
        tasks: tuple[tuple[Sequence[Path], Task], ...]
        tasks = ((captioners, "caption"), (filters, "retrieval"))
        writes, reads = (
            opened(some, task, threads, [known[one] for one in some] if known else None)
            for some, task in tasks
        )
        return cls(writes, reads, recipe, seed)

    @property
    def sizes(self) -> list[int]:
        """Sides, in pixels, of the squares that the models see."""
        models = [*self.captioners, *self.filters]
        return sorted({named.model.preprocess.size for named in models})

    def texts(self, pictures: Sequence[Looked]) -> list[list[Text]]:
        """Every text of each picture, the web's first, kept or not."""
        written = self.write(pictures)
        return [self.judge(*pair) for pair in zip(pictures, written, strict=True)]

    def write(self, pictures: Sequence[Looked]) -> list[list[Text]]:
        """The web's texts of each picture and the new ones, none twice.

        What is drawn depends on the seed, the round and the picture, not on its neighbours.
        """
        recipe = self.recipe
        texts = [
            [Text(caption=text, source="web", round=recipe.round) for text in picture.texts]
            for picture in pictures
        ]
        for number, named in enumerate(self.captioners):
            seed = self.seed + 1_000_003 * (recipe.round - 1) + number
            squares = [picture.squares[named.model.preprocess.size] for picture in pictures]
            for own, captions in zip(texts, self._drawn(named.model, squares, seed), strict=True):
                own += [self._new(caption, named, seed) for caption in captions]
        return [unlike(own) for own in texts]

    def _new(self, caption: Caption, captioner: Named, seed: int) -> Text:
        recipe, confidence = self.recipe, round(math.exp(caption.score), 6)
        return Text(
            caption=caption.text,
            source="synthetic",
            round=recipe.round,
            model=captioner.sha256,
            beams=recipe.beams or None,
            top_p=None if recipe.beams else recipe.top_p,
            seed=seed,
            confidence=confidence,
            kept=confidence >= recipe.min_confidence,
        )

    def judge(self, picture: Looked, texts: Sequence[Text]) -> list[Text]:
        """The texts of a picture with what the filters say; without filters they are as before."""
        if not self.filters or not texts:
            return list(texts)
        said = [text.caption for text in texts]
        found = [
            named.model.match(picture.squares[named.model.preprocess.size], said)
            for named in self.filters
        ]
        recipe = self.recipe
        return [
            judged(
                text,
                [match.itm for match in matches],
                [match.itc for match in matches],
                threshold=recipe.threshold,
                min_itc=recipe.min_itc,
                vote=recipe.vote,
            )
            for text, matches in zip(texts, zip(*found, strict=True), strict=True)
        ]

    def _drawn(self, model: Captions, squares: list[Image.Image], seed: int) -> list[list[Caption]]:
        recipe = self.recipe
        if not squares:
            return []
        if recipe.beams:
            return model.captions(squares, recipe.captions, beams=recipe.beams)
        how = {"beams": 1, "sample": True, "top_p": recipe.top_p}
        return model.captions(squares, recipe.captions, seed=seed, **how)
