"""Short clips in which one thing moves while the others stay.

A clip is an animated PNG, `videos/<clip_name>.png`: lossless, and read frame by frame with Pillow
alone. The rows have the names of the official video sets.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from blip_edge.data.shapes.claim import Phrase
from blip_edge.data.shapes.draw import draw
from blip_edge.data.shapes.language import name, phrase_of
from blip_edge.data.shapes.scene import Scene, Thing
from blip_edge.data.shapes.world import Picture, Purpose, World

__all__ = ["clip"]

_FRAME_MS = 125
_STEPS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}


def clip(
    world: World, picture: Picture, folder: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write one clip; its row `{"clip_name", "caption"}` and its questions.

    Questions are `{"question_id", "clip_name", "question", "answer"}`.
    """
    rng = world.rng("clips", picture.index, Purpose.CLIP)
    scene = picture.scene
    while not (ways := _ways(scene)):
        scene = replace(scene, things=scene.things[1:])  # too full for anything to move
    thing, direction, cells = ways[rng.integers(len(ways))]
    stays = tuple(other for other in scene.things if other is not thing)
    down, across = (cells * step / scene.side for step in _STEPS[direction])
    frames = []
    for share in np.linspace(0, 1, world.recipe.frames).tolist():
        moved = replace(thing, x=thing.x + share * across, y=thing.y + share * down)
        now = replace(scene, things=(*stays, moved))
        frames.append(draw(now, size=world.recipe.image_size, noise=world.recipe.noise, rng=rng))
    clip_name = f"video{picture.index}"
    path = folder / f"{clip_name}.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=_FRAME_MS, loop=0)
    row = {"clip_name": clip_name, "caption": _caption(thing, direction, stays, scene, world, rng)}
    return row, _questions(picture.index, clip_name, thing, direction)


def _ways(scene: Scene) -> list[tuple[Thing, str, int]]:
    """Who can move where, and how many places far until the edge or another thing."""
    taken = {(thing.row, thing.column) for thing in scene.things}
    found = []
    for thing in scene.things:
        for direction, (down, across) in _STEPS.items():
            cells = 0
            row, column = thing.row + down, thing.column + across
            while row in range(scene.side) and column in range(scene.side):
                if (row, column) in taken:
                    break
                cells += 1
                row, column = row + down, column + across
            if cells:
                found.append((thing, direction, cells))
    return found


def _caption(
    thing: Thing,
    direction: str,
    stays: tuple[Thing, ...],
    scene: Scene,
    world: World,
    rng: np.random.Generator,
) -> str:
    text = f"{name(phrase_of(thing, world.recipe))} moves {direction}"
    if not stays:
        return text
    other = stays[rng.integers(len(stays))]
    phrase = Phrase(colour=other.colour, shape=other.shape, place=scene.place(other))
    return f"{text} while {name(phrase)} stays"


def _questions(index: int, clip_name: str, thing: Thing, direction: str) -> list[dict[str, Any]]:
    asked = (
        ("what colour is the thing that moves?", thing.colour),
        ("what shape is the thing that moves?", thing.shape),
        ("where does it move?", direction),
    )
    return [
        {
            "question_id": index * 10 + number,
            "clip_name": clip_name,
            "question": question,
            "answer": answer,
        }
        for number, (question, answer) in enumerate(asked)
    ]
