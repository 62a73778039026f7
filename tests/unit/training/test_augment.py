"""Augmentation: what is drawn is in range and repeatable, what is applied is what it says."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from blip_edge.training.augment import Augmentation, Change, Op, apply_change, draw_change

SIDE = 16


def picture(width: int = SIDE, height: int = SIDE, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def whole(op: Op, strength: float) -> Change:
    return Change((0, 0, SIDE, SIDE), False, ((op, strength),))


def pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    seed=st.integers(0, 99),
    min_scale=st.floats(0.05, 1.0),
)
def test_a_crop_lies_in_the_picture(width: int, height: int, seed: int, min_scale: float) -> None:
    how = Augmentation(min_scale=min_scale)
    change = draw_change(how, width, height, np.random.default_rng(seed))
    left, top, wide, high = change.crop
    assert left >= 0 and top >= 0 and wide >= 1 and high >= 1
    assert left + wide <= width and top + high <= height
    assert change == draw_change(how, width, height, np.random.default_rng(seed))


def test_crops_keep_the_share_and_the_shape_that_were_asked_for() -> None:
    rng = np.random.default_rng(0)
    how = Augmentation(min_scale=0.2)
    crops = [draw_change(how, 400, 300, rng).crop for _ in range(400)]
    shares = [wide * high / (400 * 300) for _, _, wide, high in crops]
    assert 0.19 < min(shares) < 0.3 and max(shares) > 0.8
    assert all(0.73 < wide / high < 1.37 for _, _, wide, high in crops)


def test_operations_are_drawn_evenly_and_applied_half_of_the_time() -> None:
    rng = np.random.default_rng(0)
    changes = [draw_change(Augmentation(), 30, 30, rng) for _ in range(4000)]
    counts = Counter(op for change in changes for op, _ in change.ops)
    assert len(counts) == 10
    assert all(400 * 0.8 < count < 400 * 1.2 for count in counts.values())
    assert sum(change.flip for change in changes) / 4000 == pytest.approx(0.5, abs=0.03)
    strengths: dict[str, set[float]] = {op: set() for op in counts}
    for change in changes:
        for op, strength in change.ops:
            strengths[op].add(round(strength, 6))
    assert strengths["ShearX"] == {-0.15, 0.15}
    assert strengths["TranslateY"] == {-5.0, 5.0}
    assert strengths["Rotate"] == {-15.0, 15.0}
    assert strengths["Brightness"] == strengths["Sharpness"] == {1.0}


@pytest.mark.parametrize("op", ["Identity", "Brightness", "Sharpness"])
def test_at_level_five_three_operations_do_nothing(op: Op) -> None:
    assert np.array_equal(pixels(apply_change(picture(), whole(op, 1.0), SIDE)), pixels(picture()))


def test_contrast_and_equalize_are_pillows() -> None:
    dull = picture().point(lambda value: 60 + value // 4)
    contrast = apply_change(dull, whole("AutoContrast", 0.0), SIDE)
    assert np.array_equal(pixels(contrast), pixels(ImageOps.autocontrast(dull)))
    equal = apply_change(dull, whole("Equalize", 0.0), SIDE)
    assert np.array_equal(pixels(equal), pixels(ImageOps.equalize(dull)))


def bilinear(image: NDArray[np.int64], x: float, y: float) -> NDArray[np.float64]:
    """The picture between pixels, grey outside of it."""
    left, top = math.floor(x), math.floor(y)
    total = np.zeros(3)
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        share = (1 - abs(x - column)) * (1 - abs(y - row))
        inside = 0 <= column < SIDE and 0 <= row < SIDE
        total += share * (image[row, column] if inside else 128)
    return total


@pytest.mark.parametrize(
    ("op", "strength"),
    [
        ("ShearX", 0.15),
        ("ShearX", -0.15),
        ("ShearY", 0.15),
        ("TranslateX", 5.0),
        ("TranslateY", -5.0),
        ("Rotate", 15.0),
        ("Rotate", -15.0),
    ],
)
def test_pixels_come_from_where_the_matrix_says(op: Op, strength: float) -> None:
    """Pixel by pixel, about the corner for shears and shifts, about the middle for turns."""
    source = pixels(picture())
    got = pixels(apply_change(picture(), whole(op, strength), SIDE))
    cos, sin = math.cos(math.radians(strength)), math.sin(math.radians(strength))
    middle = SIDE / 2
    compared = 0
    for y in range(SIDE):
        for x in range(SIDE):
            where = {
                "ShearX": (x - strength * y, y),
                "ShearY": (x, y - strength * x),
                "TranslateX": (x - strength, y),
                "TranslateY": (x, y - strength),
                "Rotate": (
                    cos * (x - middle) - sin * (y - middle) + middle,
                    sin * (x - middle) + cos * (y - middle) + middle,
                ),
            }[op]
            if all(1 <= at <= SIDE - 2 for at in where):
                compared += 1
                assert np.abs(got[y, x] - bilinear(source, *where)).max() <= 1.01
            elif any(not -1 <= at <= SIDE for at in where):
                assert (got[y, x] == 128).all()
    assert compared > 60


def test_a_flip_is_a_flip_and_a_crop_a_crop() -> None:
    flipped = apply_change(picture(), Change((0, 0, SIDE, SIDE), True, ()), SIDE)
    assert np.array_equal(pixels(flipped), pixels(picture())[:, ::-1])
    cropped = apply_change(picture(40, 30), Change((3, 4, 20, 10), False, ()), 8)
    want = picture(40, 30).crop((3, 4, 23, 14)).resize((8, 8), Image.Resampling.BICUBIC)
    assert np.array_equal(pixels(cropped), pixels(want))


def test_without_change_training_sees_what_testing_sees() -> None:
    how = Augmentation(min_scale=1.0, flip=0.0, ops=0)
    image = picture(40, 30)
    change = draw_change(how, 40, 30, np.random.default_rng(0))
    want = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    assert np.array_equal(pixels(apply_change(image, change, SIDE)), pixels(want))
