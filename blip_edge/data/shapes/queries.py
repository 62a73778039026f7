"""Relevance and attributes: texts that fit a picture or not, and what each drawn thing is like.

The first is what a search is measured with (ROC-AUC), the second has the fields of OVAD, whose
benchmark ranks attributes by how well a model matches them to a box.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from blip_edge.data.shapes.claim import Phrase, fits
from blip_edge.data.shapes.language import name, phrase_of
from blip_edge.data.shapes.scene import Scene, Thing
from blip_edge.data.shapes.world import Picture, Purpose, World

__all__ = ["attributes", "queries"]

_TRIES = 200


def queries(world: World, pictures: list[Picture]) -> list[dict[str, Any]]:
    """Rows `{"image", "text", "label"}`: a text that fits (1) and one that does not (0)."""
    rows = []
    for picture in pictures:
        rng = world.rng(picture.split, picture.index, Purpose.QUERIES)
        for label, phrase in _texts(picture, pictures, world, rng):
            text = name(phrase).partition(" ")[2]
            rows.append({"image": picture.image, "text": text, "label": label})
    return rows


def attributes(world: World, pictures: list[Picture]) -> dict[str, Any]:
    """A document with OVAD's fields: images, categories (shapes), attributes, annotations."""
    known = [
        (sort, value)
        for sort in ("colour", "size", "texture")
        for value in getattr(world, f"{sort}s")
    ]
    side = world.recipe.image_size
    things = [(picture, thing) for picture in pictures for thing in picture.scene.things]
    return {
        "images": [
            {"id": picture.image_id, "width": side, "height": side, "file_name": picture.image}
            for picture in pictures
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(world.shapes)],
        "attributes": [
            {
                "id": number,
                "name": f"{sort}:{value}",
                "type": sort,
                "parent_type": sort,
                "is_has_att": "is",
                "freq_set": "head",
            }
            for number, (sort, value) in enumerate(known)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": picture.image_id,
                "bbox": _bbox(thing, side),
                "category_id": world.shapes.index(thing.shape),
                "att_vec": [int(getattr(thing, sort) == value) for sort, value in known],
            }
            for number, (picture, thing) in enumerate(things)
        ],
    }


def _texts(
    picture: Picture, pictures: list[Picture], world: World, rng: np.random.Generator
) -> Iterator[tuple[int, Phrase]]:
    yield 1, _query(picture.scene, world, rng)
    for _ in range(_TRIES):
        other = _query(pictures[rng.integers(len(pictures))].scene, world, rng)
        if not fits(other, picture.scene):
            yield 0, other
            return


def _query(scene: Scene, world: World, rng: np.random.Generator) -> Phrase:
    """What somebody who looks for such a picture would type."""
    thing = scene.things[rng.integers(len(scene.things))]
    phrase = replace(phrase_of(thing, world.recipe), texture=None)
    return phrase if rng.random() < 0.3 else replace(phrase, size=None)


def _bbox(thing: Thing, side: int) -> list[float]:
    """Left, top, width and height in pixels of the circle that `thing` lies in, clipped."""
    left, top = max(0.0, thing.x - thing.radius), max(0.0, thing.y - thing.radius)
    right, bottom = min(1.0, thing.x + thing.radius), min(1.0, thing.y + thing.radius)
    corners = (left, top, right - left, bottom - top)
    return [round(value * side, 2) for value in corners]
