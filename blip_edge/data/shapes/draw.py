"""A scene to a picture, with Pillow and numpy.

Each thing is drawn four times too large as a mask of coverage and shrunk, so that edges are smooth
and half a pixel matters; the masks then blend the things' colours into the background.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blip_edge.data.shapes.scene import Background, Rgb, Scene, Thing

__all__ = ["draw"]

# S side of the picture · W side of the window around one thing
F32 = NDArray[np.float32]
Point = tuple[float, float]

_FINE = 4  # mask pixels a picture pixel
_CHECKS = 6  # checks a side of a checkered background


def draw(scene: Scene, *, size: int, noise: float, rng: np.random.Generator) -> Image.Image:
    """The picture of `scene`: `size` pixels a side, RGB, `noise` as a share of full brightness."""
    canvas = _background(scene.background, size)
    for thing in scene.things:
        _paint(canvas, thing, size)
    if noise:
        canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(noise * 255)
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))


def _background(background: Background, size: int) -> F32:
    """(S, S, 3)"""
    first, second = (np.array(rgb, np.float32) for rgb in (background.first, background.second))
    if background.kind == "flat":
        return np.tile(first, (size, size, 1))
    line = np.arange(size, dtype=np.float32) / size
    if background.kind == "gradient":
        share = (line[:, None] + line[None, :]) / 2
    else:
        step = np.floor(line * _CHECKS)
        share = (step[:, None] + step[None, :]) % 2
    return first + share[..., None] * (second - first)


def _paint(canvas: F32, thing: Thing, size: int) -> None:
    """Blend one thing into the (S, S, 3) canvas."""
    radius, x, y = thing.radius * size, thing.x * size, thing.y * size
    left, top = max(0, math.floor(x - radius) - 1), max(0, math.floor(y - radius) - 1)
    side = math.ceil(2 * radius) + 3
    view = canvas[top : top + side, left : left + side]
    fine = Image.new("L", (side * _FINE, side * _FINE))
    middle = ((x - left) * _FINE, (y - top) * _FINE)
    _outline(ImageDraw.Draw(fine), thing.shape, middle, radius * _FINE)
    pattern = _pattern(thing.texture, side * _FINE, middle, radius * _FINE)
    cover = _shrink(fine)[: view.shape[0], : view.shape[1], None]
    share = _shrink(Image.fromarray(pattern))[: view.shape[0], : view.shape[1], None]
    colour, mark = np.array(thing.rgb, np.float32), np.array(_mark(thing.rgb), np.float32)
    view += cover * (colour + share * (mark - colour) - view)


def _shrink(mask: Image.Image) -> F32:
    """A fine mask as the (W, W) share of each pixel that is covered."""
    return np.asarray(mask.reduce(_FINE), np.float32) / np.float32(255)


def _mark(rgb: Rgb) -> Rgb:
    """The colour of the texture on a thing: its own, much lighter, or darker if it is bright."""
    bright = 0.3 * rgb[0] + 0.6 * rgb[1] + 0.1 * rgb[2] > 113
    # Never wholly white or black: the outline must not melt into the background.
    goal, share = (0, 0.6) if bright else (255, 0.6)
    red, green, blue = (round(level + share * (goal - level)) for level in rgb)
    return red, green, blue


def _pattern(texture: str, side: int, middle: Point, radius: float) -> NDArray[np.uint8]:
    """(W x 4, W x 4): 255 where the mark's colour is."""
    if texture == "plain":
        return np.zeros((side, side), np.uint8)
    line = np.arange(side, dtype=np.float32) + np.float32(0.5)
    x, y = (line[None, :] - middle[0]) / radius, (line[:, None] - middle[1]) / radius
    if texture == "striped":
        marked = np.mod((x + y) * 1.3, 1) < 0.4
    elif texture == "dotted":
        across, down = np.mod(x * 1.7, 1) - 0.5, np.mod(y * 1.7, 1) - 0.5
        marked = np.hypot(across, down) < 0.3
    else:
        marked = (np.floor(x * 2) + np.floor(y * 2)) % 2 == 0
    return np.where(np.broadcast_to(marked, (side, side)), np.uint8(255), np.uint8(0))


def _outline(pen: ImageDraw.ImageDraw, shape: str, middle: Point, radius: float) -> None:
    """Fill `shape`, whose points lie at most `radius` from `middle`."""
    x, y = middle

    def disc(cx: float, cy: float, r: float, fill: int = 255) -> None:
        pen.ellipse((x + cx - r, y + cy - r, x + cx + r, y + cy + r), fill=fill)

    def polygon(points: list[Point]) -> None:
        pen.polygon([(x + radius * px, y + radius * py) for px, py in points], fill=255)

    match shape:
        case "circle":
            disc(0, 0, radius)
        case "ring":
            disc(0, 0, radius)
            disc(0, 0, radius * 0.55, fill=0)
        case "moon":
            disc(0, 0, radius)
            disc(radius * 0.45, 0, radius * 0.85, fill=0)
        case "heart":
            for sign in (-1, 1):
                disc(sign * radius * 0.44, -radius * 0.36, radius * 0.5)
            polygon([(-0.89, -0.14), (0, 0.95), (0.89, -0.14), (0, -0.4)])
        case _:
            polygon(_POLYGONS[shape])


def _star(points: int, inner: float) -> list[Point]:
    turns = [math.pi * (step / points - 0.5) for step in range(2 * points)]
    return [
        (math.cos(turn) * length, math.sin(turn) * length)
        for turn, length in zip(turns, [1.0, inner] * points, strict=True)
    ]


_POLYGONS: dict[str, list[Point]] = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -0.95), (0.98, 0.8), (-0.98, 0.8)],
    "star": _star(5, 0.42),
    "cross": [
        (-0.3, -0.98), (0.3, -0.98), (0.3, -0.3), (0.98, -0.3), (0.98, 0.3), (0.3, 0.3),
        (0.3, 0.98), (-0.3, 0.98), (-0.3, 0.3), (-0.98, 0.3), (-0.98, -0.3), (-0.3, -0.3),
    ],
}  # fmt: skip
