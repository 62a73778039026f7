"""The world: repeatable, with splits that share nothing, and pictures that show the scene."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from blip_edge.data import Dataset, check
from blip_edge.data.shapes import Scene, ShapesRecipe, make, read_scenes
from blip_edge.data.shapes.draw import draw
from blip_edge.data.shapes.words import SHAPES, TEXTURES
from blip_edge.data.shapes.world import Split, World
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.recipe import load

GENERAL = World(ShapesRecipe(), seed=1)
EASY = World(ShapesRecipe(objects=1, textures=1, sizes=2, places=2), seed=1)
SMALLEST = World(ShapesRecipe(objects=1, textures=1, colours=2, shapes=2, places=2), seed=1)


def _kind(scene: Scene) -> frozenset[tuple[object, ...]]:
    return frozenset(
        (thing.size, thing.texture, thing.colour, thing.shape, thing.row, thing.column)
        for thing in scene.things
    )


def _scenes(world: World, split: Split, number: int = 150) -> list[Scene]:
    return [world.picture(split, index).scene for index in range(number)]


@pytest.mark.parametrize("world", [GENERAL, EASY, SMALLEST], ids=["general", "easy", "smallest"])
def test_no_kind_of_scene_is_in_two_splits(world: World) -> None:
    kinds = {split: {_kind(scene) for scene in _scenes(world, split)} for split in get_args(Split)}
    assert not kinds["train"] & kinds["val"]
    assert not kinds["train"] & kinds["test"]
    assert not kinds["val"] & kinds["test"]
    assert not kinds["web"] & (kinds["val"] | kinds["test"])


@pytest.mark.parametrize("world", [GENERAL, EASY, SMALLEST], ids=["general", "easy", "smallest"])
def test_unseen_compositions_are_never_seen(world: World) -> None:
    def shown(split: Split) -> set[tuple[str, str]]:
        scenes = _scenes(world, split, 500 if split == "train" else 100)
        return {(thing.colour, thing.shape) for scene in scenes for thing in scene.things}

    unseen = shown("test_unseen")
    seen = set().union(*(shown(split) for split in get_args(Split) if split != "test_unseen"))
    assert unseen
    assert not unseen & seen
    assert shown("test") <= shown("train")
    assert {colour for colour, _ in unseen} <= {colour for colour, _ in seen}
    assert {shape for _, shape in unseen} <= {shape for _, shape in seen}


def test_things_lie_inside_places_of_their_own() -> None:
    for scene in _scenes(GENERAL, "train"):
        cells = [(thing.row, thing.column) for thing in scene.things]
        assert len(set(cells)) == len(cells) <= GENERAL.recipe.objects
        for thing in scene.things:
            for middle, cell in ((thing.x, thing.column), (thing.y, thing.row)):
                assert cell / 3 <= middle - thing.radius
                assert middle + thing.radius <= (cell + 1) / 3


def test_sizes_are_far_apart() -> None:
    radii: dict[str, list[float]] = {}
    for scene in _scenes(GENERAL, "train"):
        for thing in scene.things:
            radii.setdefault(thing.size, []).append(thing.radius)
    assert max(radii["small"]) * 1.2 < min(radii["medium"])
    assert max(radii["medium"]) * 1.2 < min(radii["large"])


def test_a_scene_survives_json() -> None:
    for scene in _scenes(GENERAL, "val", 20):
        assert Scene.from_json(json.loads(json.dumps(scene.to_json()))) == scene


def test_a_larger_split_begins_with_the_smaller_one() -> None:
    other = World(replace(GENERAL.recipe, train=9, val=3), seed=1)
    assert _scenes(other, "train", 9) == _scenes(GENERAL, "train", 9)
    assert _scenes(World(GENERAL.recipe, seed=2), "train", 9) != _scenes(GENERAL, "train", 9)


def test_web_pictures_are_not_training_pictures_again() -> None:
    assert not set(_scenes(GENERAL, "web", 50)) & set(_scenes(GENERAL, "train", 50))


@pytest.mark.parametrize("shape", ["circle", "ring", "square", "cross"])
@pytest.mark.parametrize(("x", "y"), [(0.3, 0.7), (0.511, 0.243), (0.25, 0.25)])
def test_things_are_drawn_to_the_part_of_a_pixel(shape: str, x: float, y: float) -> None:
    scene = _scenes(EASY, "train", 1)[0]
    thing = replace(scene.things[0], shape=shape, x=x, y=y, radius=0.15, rgb=(0, 0, 0))
    flat = replace(scene.background, kind="flat", first=(200, 200, 200))
    scene = replace(scene, things=(thing,), background=flat)
    pixels = np.asarray(draw(scene, size=48, noise=0, rng=np.random.default_rng(0)), np.float64)
    dark = 200 - pixels.mean(2)
    middle = np.arange(48) + 0.5
    assert (dark.sum(0) @ middle) / dark.sum() == pytest.approx(48 * x, abs=0.3)
    assert (dark.sum(1) @ middle) / dark.sum() == pytest.approx(48 * y, abs=0.3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("texture", TEXTURES)
def test_a_thing_is_drawn_where_it_is_and_nowhere_else(shape: str, texture: str) -> None:
    scene = _scenes(EASY, "train", 1)[0]
    thing = replace(
        scene.things[0], shape=shape, texture=texture, x=0.3, y=0.7, radius=0.2, rgb=(200, 0, 0)
    )
    flat = replace(scene.background, kind="flat", first=(200, 200, 200))
    scene = replace(scene, things=(thing,), background=flat)
    pixels = np.asarray(draw(scene, size=48, noise=0, rng=np.random.default_rng(0)), np.int64)
    drawn = np.abs(pixels - 200).sum(2) > 60
    rows, columns = np.nonzero(drawn)
    assert 0.15 < drawn.sum() / (np.pi * (0.2 * 48) ** 2) < 1.15
    assert abs(rows.min() - 0.5 * 48) <= 2
    assert rows.max() <= 0.9 * 48 + 1
    assert columns.min() >= 0.1 * 48 - 1
    assert columns.max() <= 0.5 * 48 + 1


def test_every_shape_and_texture_looks_different() -> None:
    scene = _scenes(EASY, "train", 1)[0]
    pictures = []
    for shape in SHAPES:
        for texture in TEXTURES:
            thing = replace(
                scene.things[0], shape=shape, texture=texture, x=0.25, y=0.25, radius=0.1
            )
            one = replace(scene, things=(thing,))
            image = draw(one, size=48, noise=0, rng=np.random.default_rng(0))
            pictures.append(np.asarray(image, np.int64))
    for index, first in enumerate(pictures):
        for second in pictures[:index]:
            # At least a dozen pixels differ by more than the default noise could hide.
            assert (np.abs(first - second).max(2) > 30).sum() >= 12


def test_noise_is_as_strong_as_asked() -> None:
    scene = _scenes(EASY, "train", 1)[0]
    ground = replace(scene.background, kind="flat", first=(128, 128, 128))
    empty = replace(scene, things=(), background=ground)
    pixels = np.asarray(draw(empty, size=96, noise=0.05, rng=np.random.default_rng(0)))
    assert pixels.std() == pytest.approx(0.05 * 255, rel=0.05)


@pytest.mark.parametrize(
    "override",
    ["colours=1", "colours=11", "sizes=0", "places=4", "objects=10", "web_noise=1.5", "noise=-1"],
)
def test_a_recipe_refuses_what_cannot_be_drawn(override: str) -> None:
    with pytest.raises(UsageError, match=override.partition("=")[0]):
        load(ShapesRecipe, "data", None, [override])


def test_a_negative_seed_is_refused(recipe: ShapesRecipe) -> None:
    with pytest.raises(UsageError, match="seed"):
        World(recipe, seed=-1)


def test_the_smallest_world_still_has_every_split(tmp_path: Path) -> None:
    words = ["colours=2", "shapes=2", "sizes=1", "textures=1", "places=2", "objects=1"]
    numbers = ["train=4", "val=4", "test=4", "unseen=4", "web=4", "clips=1", "frames=2"]
    recipe = load(ShapesRecipe, "data", None, [*words, *numbers, "image_size=24"])
    data = make(tmp_path / "world", recipe)
    assert len(data.captions("test")) == len(data.captions("test_unseen")) == 4
    assert check(data).ok


def test_scenes_are_named_by_their_pictures(drawn: Dataset) -> None:
    for split in ("train", "val", "test", "test_unseen"):
        scenes = read_scenes(drawn.folder, split)
        assert {row.image for row in drawn.captions(split)} == set(scenes)
    assert {row.image for row in drawn.web()} == set(read_scenes(drawn.folder, "web"))


@pytest.mark.parametrize("text", ['{"a": 1}', '{"a": {"things": []}}', "[]", '{"a'])
def test_damaged_scenes_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "scenes_test.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"scenes_test\.json"):
        read_scenes(tmp_path, "test")


def test_the_same_seed_gives_the_same_bytes(
    drawn: Dataset, recipe: ShapesRecipe, tmp_path: Path
) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    again = make(tmp_path / "again", recipe, seed=7)
    assert contents(again.folder) == contents(drawn.folder)
    assert again.digest() == drawn.digest()
    other = make(tmp_path / "other", recipe, seed=8)
    assert other.digest() != drawn.digest()


def test_nothing_is_overwritten_unasked(easy_recipe: ShapesRecipe, tmp_path: Path) -> None:
    make(tmp_path / "world", easy_recipe)
    with pytest.raises(ArtifactError, match="--force"):
        make(tmp_path / "world", easy_recipe)
    make(tmp_path / "world", easy_recipe, force=True)
