"""Which scenes there are, and to which split each belongs.

A scene's kind (each thing's size, texture, colour, shape and place) belongs to exactly one of
train, val and test, so that no test picture shows what a training picture showed. A few colours
are never put on certain shapes there at all: those compositions make `test_unseen`.

Every picture has random streams of its own, named by seed, split and number: changing the size of
one split changes no picture of it or of another.
"""

from dataclasses import dataclass
from enum import IntEnum
from itertools import product
from typing import Literal, NamedTuple

import numpy as np

from blip_edge.data.shapes.recipe import ShapesRecipe
from blip_edge.data.shapes.scene import Background, Rgb, Scene, Thing
from blip_edge.data.shapes.words import COLOURS, SHAPES, TEXTURES, sizes
from blip_edge.errors import UsageError

__all__ = ["Picture", "Purpose", "Split", "World"]

Split = Literal["train", "val", "test", "test_unseen", "web", "clips"]

_SPLITS: tuple[Split, ...] = ("train", "val", "test", "test_unseen", "web", "clips")
# Scenes fall into ten buckets by their kind: eight to train with, one to choose, one to measure.
# Web pictures show what training pictures show; clips are only for measuring.
_NUMBER = 10
_BUCKETS = {
    "train": range(8),
    "web": range(8),
    "val": range(8, 9),
    "test": range(9, 10),
    "clips": range(9, 10),
}

# Radius of a thing as a share of its place's side: even steps of a third, far wider than the
# jitter, and the smallest still shows its shape where a place has 24 pixels.
_RADII = {"small": 0.26, "medium": 0.345, "large": 0.46}
_RADIUS_JITTER = 0.04
_TWIN = 0.4  # without likeness among things there is little to count and nothing to confuse

_PALETTE: dict[str, Rgb] = {
    "red": (220, 30, 35),
    "green": (25, 150, 45),
    "blue": (30, 60, 220),
    "yellow": (250, 215, 20),
    "purple": (135, 30, 185),
    "cyan": (20, 205, 225),
    "black": (25, 25, 25),
    "pink": (250, 120, 190),
    "brown": (125, 70, 25),
    "grey": (125, 125, 125),
}


class Purpose(IntEnum):
    """What a picture's random stream is used for."""

    SCENE = 0
    PAINT = 1
    CAPTIONS = 2
    QUESTIONS = 3
    SENTENCES = 4
    DIALOG = 5
    WEB = 6
    QUERIES = 7
    CLIP = 8


@dataclass(frozen=True)
class Picture:
    """One picture of a split, and the scene that it shows."""

    split: Split
    index: int
    scene: Scene

    @property
    def image(self) -> str:
        """Its file, relative to the data set's image root."""
        return f"{self.split}/{self.index:06d}.png"

    @property
    def image_id(self) -> int:
        """A number that no other picture of the data set has."""
        return _SPLITS.index(self.split) * 1_000_000 + self.index


class _Kind(NamedTuple):
    size: str
    texture: str
    colour: str
    shape: str
    row: int
    column: int


class World:
    """All scenes that one recipe and one seed describe.

    Raises:
        UsageError: `seed` is negative.
    """

    def __init__(self, recipe: ShapesRecipe, seed: int = 0) -> None:
        if seed < 0:
            raise UsageError(f"a seed is a number from 0, got {seed}")
        self.recipe = recipe
        self.seed = seed
        self.sizes = sizes(recipe.sizes)
        self.textures = TEXTURES[: recipe.textures]
        self.colours = COLOURS[: recipe.colours]
        self.shapes = SHAPES[: recipe.shapes]
        rng = np.random.default_rng(seed)
        rows, columns = rng.permutation(recipe.colours), rng.permutation(recipe.shapes)
        # One place a row and a column of the table: each colour and shape stays well seen.
        diagonal = zip(rows.tolist(), columns.tolist(), strict=False)
        table = [(self.colours[row], self.shapes[column]) for row, column in diagonal]
        self.unseen = tuple(table[: recipe.held_out])
        everything = product(self.colours, self.shapes)
        self.seen = tuple(pair for pair in everything if pair not in self.unseen)
        places = range(recipe.places)
        kinds = [
            _Kind(size, texture, *pair, row, column)
            for size, texture, pair, row, column in product(
                self.sizes, self.textures, self.seen, places, places
            )
        ]
        self._ranks = dict(zip(kinds, rng.permutation(len(kinds)).tolist(), strict=True))

    def rng(self, split: Split, index: int, purpose: Purpose) -> np.random.Generator:
        """The random stream of one picture for one purpose."""
        return np.random.default_rng([self.seed, _SPLITS.index(split), index, int(purpose)])

    def picture(self, split: Split, index: int) -> Picture:
        """Picture number `index` of a split."""
        rng = self.rng(split, index, Purpose.SCENE)
        kinds = self._kinds(rng, split)
        things = tuple(self._thing(rng, kind) for kind in kinds)
        background = self._background(rng)
        scene = Scene(things=things, background=background, side=self.recipe.places)
        return Picture(split, index, scene)

    def _kinds(self, rng: np.random.Generator, split: Split) -> list[_Kind]:
        while True:
            kinds = self._draw(rng, self.unseen if split == "test_unseen" else self.seen)
            if split == "test_unseen":
                return kinds
            if sum(self._ranks[kind] for kind in kinds) % _NUMBER in _BUCKETS[split]:
                return kinds

    def _draw(
        self, rng: np.random.Generator, compositions: tuple[tuple[str, str], ...]
    ) -> list[_Kind]:
        # The larger of two throws: most pictures are well filled, a few hold a single thing.
        number = 1 + int(rng.integers(self.recipe.objects, size=2).max())
        cells = rng.permutation(self.recipe.places**2)[:number].tolist()
        kinds: list[_Kind] = []
        for cell in cells:
            colour, shape = compositions[rng.integers(len(compositions))]
            if kinds and rng.random() < _TWIN:
                model = kinds[rng.integers(len(kinds))]
                alike = [pair for pair in compositions if _like(pair, model)]
                colour, shape = alike[rng.integers(len(alike))]
            size = self.sizes[rng.integers(len(self.sizes))]
            texture = self.textures[rng.integers(len(self.textures))]
            kinds.append(_Kind(size, texture, colour, shape, *divmod(cell, self.recipe.places)))
        return kinds

    def _thing(self, rng: np.random.Generator, kind: _Kind) -> Thing:
        side = self.recipe.places
        share = _RADII[kind.size] * (1 + rng.uniform(-_RADIUS_JITTER, _RADIUS_JITTER))
        room = 0.48 - share
        x, y = rng.uniform(-room, room, size=2)
        jitter = rng.integers(-8, 9, size=3)
        red, green, blue = np.clip(np.array(_PALETTE[kind.colour]) + jitter, 0, 255).tolist()
        return Thing(
            **kind._asdict(),
            x=round((kind.column + 0.5 + float(x)) / side, 4),
            y=round((kind.row + 0.5 + float(y)) / side, 4),
            radius=round(float(share) / side, 4),
            rgb=(red, green, blue),
        )

    def _background(self, rng: np.random.Generator) -> Background:
        kinds: tuple[Literal["flat", "gradient", "checker"], ...] = ("flat", "gradient", "checker")
        kind = kinds[rng.integers(self.recipe.backgrounds)]
        return Background(kind=kind, first=_pale(rng), second=_pale(rng))


def _like(pair: tuple[str, str], model: _Kind) -> bool:
    return pair[0] == model.colour or pair[1] == model.shape


def _pale(rng: np.random.Generator) -> Rgb:
    """A light colour of little saturation, far from every thing's colour."""
    light = rng.integers(185, 246)
    red, green, blue = (light + rng.integers(-9, 10, size=3)).tolist()
    return red, green, blue
