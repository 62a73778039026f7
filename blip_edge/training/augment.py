"""What training does to pictures: BLIP's random crop, flip and RandomAugment.

What is done to a picture is drawn first, as plain numbers, and applied after that, so that the same
numbers give the same pixels again. Colours are left alone on purpose: captions name them.
Source: BLIP (arXiv 2201.12086) section 4.1 and its released transform (ops and constants only).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image
from torchvision.transforms.v2 import functional

__all__ = ["Augmentation", "Change", "Op", "apply_change", "draw_change"]

Op = Literal[
    "Identity",
    "AutoContrast",
    "Brightness",
    "Sharpness",
    "Equalize",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
]
_OPS: tuple[Op, ...] = get_args(Op)
_GREY = (128, 128, 128)
# The largest a level of 10 does: shear as a tangent, shift in pixels, turn in degrees.
_SHEAR, _SHIFT, _TURN = 0.3, 10.0, 30.0
# Crops keep between 3:4 and 4:3 of the picture's own shape, and are tried this often.
_RATIO, _TRIES = (3 / 4, 4 / 3), 10


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much training may change a picture."""

    min_scale: float = 0.5
    """Smallest share of the picture's area that a crop keeps: BLIP 0.2 to pre-train, 0.5 to tune;
    1 squashes the whole picture as testing does."""
    flip: float = 0.5
    """How often left and right change places."""
    ops: int = 2
    """Operations of RandomAugment, drawn with replacement, each applied half of the time."""
    level: int = 5
    """How strong they are, of 10. At 5 Brightness and Sharpness do nothing, as released."""


@dataclass(frozen=True)
class Change:
    """What is done to one picture."""

    crop: tuple[int, int, int, int]
    """Left, top, width and height, in pixels."""
    flip: bool
    ops: tuple[tuple[Op, float], ...]
    """Operations in their order, each with its factor, tangent, pixels or degrees."""


def draw_change(how: Augmentation, width: int, height: int, rng: np.random.Generator) -> Change:
    """Draw what is done to a picture of `width` by `height` pixels."""
    crop = _crop(how.min_scale, width, height, rng)
    flip = bool(rng.random() < how.flip)
    drawn = [_OPS[rng.integers(len(_OPS))] for _ in range(how.ops)]
    ops = [(op, _strength(op, how.level, rng)) for op in drawn if rng.random() < 0.5]
    return Change(crop, flip, tuple(ops))


def _crop(
    min_scale: float, width: int, height: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    if min_scale >= 1:
        return (0, 0, width, height)
    for _ in range(_TRIES):
        area = width * height * rng.uniform(min_scale, 1.0)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left, top = rng.integers(width - wide + 1), rng.integers(height - high + 1)
            return (int(left), int(top), wide, high)
    # A picture too long for any such crop: its middle, in the nearest shape that is allowed.
    wide = min(width, round(height * _RATIO[1]))
    high = min(height, round(width / _RATIO[0]))
    return ((width - wide) // 2, (height - high) // 2, wide, high)


def _strength(op: Op, level: int, rng: np.random.Generator) -> float:
    share = level / 10
    sign = -1.0 if rng.random() < 0.5 else 1.0
    if op in ("Brightness", "Sharpness"):
        return share * 1.8 + 0.1
    if op in ("ShearX", "ShearY"):
        return sign * share * _SHEAR
    if op in ("TranslateX", "TranslateY"):
        return sign * share * _SHIFT
    return sign * share * _TURN if op == "Rotate" else 0.0


def apply_change(image: Image.Image, change: Change, size: int) -> Image.Image:
    """The RGB picture, changed, as a square of `size` pixels."""
    left, top, wide, high = change.crop
    square = functional.resized_crop(
        image, top, left, high, wide, [size, size], functional.InterpolationMode.BICUBIC
    )
    if change.flip:
        square = functional.horizontal_flip(square)
    for op, strength in change.ops:
        square = _APPLY[op](square, strength)
    out: Image.Image = square
    return out


def _warped(
    image: Image.Image, matrix: tuple[float, float, float, float, float, float]
) -> Image.Image:
    """Pixel (x, y) of the result is read at (a·x + b·y + c, d·x + e·y + f), grey outside.

    Coordinates are those of pixels' middles, counted from 0, where Pillow counts from corners.
    """
    a, b, c, d, e, f = matrix
    corners = (a, b, c + 0.5 * (1 - a - b), d, e, f + 0.5 * (1 - d - e))
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        corners,
        resample=Image.Resampling.BILINEAR,
        fillcolor=_GREY,
    )


def _rotated(image: Image.Image, degrees: float) -> Image.Image:
    turn = math.radians(degrees)
    x, y = image.width / 2, image.height / 2
    cos, sin = math.cos(turn), math.sin(turn)
    return _warped(image, (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y))


# torchvision shears and shifts about the middle; the released transform does about the corner.
_APPLY: dict[Op, Callable[[Image.Image, float], Image.Image]] = {
    "Identity": lambda image, _: image,
    "AutoContrast": lambda image, _: functional.autocontrast(image),
    "Brightness": lambda image, factor: functional.adjust_brightness(image, factor),
    # A factor of 1 gives the picture back, and would filter it first.
    "Sharpness": lambda image, factor: (
        image if factor == 1 else functional.adjust_sharpness(image, factor)
    ),
    "Equalize": lambda image, _: functional.equalize(image),
    "ShearX": lambda image, tangent: _warped(image, (1, -tangent, 0, 0, 1, 0)),
    "ShearY": lambda image, tangent: _warped(image, (1, 0, 0, -tangent, 1, 0)),
    "TranslateX": lambda image, pixels: _warped(image, (1, 0, -pixels, 0, 1, 0)),
    "TranslateY": lambda image, pixels: _warped(image, (1, 0, 0, 0, 1, -pixels)),
    "Rotate": _rotated,
}
