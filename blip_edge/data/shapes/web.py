"""Captions as the web has them: many true, some about another picture, off by a word, or vague.

Which is which goes into a key file of its own, so that a filter can be measured and never cheats.
"""

from typing import Any

import numpy as np

from blip_edge.data.shapes.language import captions
from blip_edge.data.shapes.scene import Scene
from blip_edge.data.shapes.truth import judge
from blip_edge.data.shapes.world import Picture, Purpose, World

__all__ = ["web"]

_TRIES = 100
_VAGUE = (
    "a nice picture",
    "some shapes on a background",
    "the best of this week",
    "photo of the day",
    "click here to see more",
    "new colours in our shop",
)


def web(world: World, pictures: list[Picture]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows `{"image", "caption"}`, and their key in the same order: `{"image", "clean", "kind"}`.

    `kind` is "true", "other" (the caption of another picture), "swapped" (one word is wrong) or
    "vague".
    """
    rows, key = [], []
    for picture in pictures:
        rng = world.rng("web", picture.index, Purpose.WEB)
        kind = "true"
        if rng.random() < world.recipe.web_noise:
            kind = ("other", "swapped", "vague")[rng.integers(3)]
        caption = _caption(kind, picture, pictures, world, rng)
        rows.append({"image": picture.image, "caption": caption})
        key.append({"image": picture.image, "clean": kind == "true", "kind": kind})
    return rows, key


def _caption(
    kind: str, picture: Picture, pictures: list[Picture], world: World, rng: np.random.Generator
) -> str:
    if kind == "vague":
        return _VAGUE[rng.integers(len(_VAGUE))]
    text = _say(picture.scene, world, rng)
    if kind == "true":
        return text
    for _ in range(_TRIES):
        if kind == "other":
            text = _say(pictures[rng.integers(len(pictures))].scene, world, rng)
        else:
            text = _swap(_say(picture.scene, world, rng), world, rng)
        if not judge(text, picture.scene).true:
            return text
    return _VAGUE[0]  # nothing false can be said in so small a world


def _say(scene: Scene, world: World, rng: np.random.Generator) -> str:
    return captions(scene, world.recipe, rng)[0]


def _swap(caption: str, world: World, rng: np.random.Generator) -> str:
    """`caption` with one attribute's word replaced by another of its sort."""
    words = caption.split()
    sorts = (world.sizes, world.textures, world.colours, world.shapes)
    places = [
        (index, sort)
        for index, word in enumerate(words)
        for sort in sorts
        if word in sort and len(sort) > 1
    ]
    if not places:
        return caption
    index, sort = places[rng.integers(len(places))]
    others = [word for word in sort if word != words[index]]
    words[index] = others[rng.integers(len(others))]
    return " ".join(words)
