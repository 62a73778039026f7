"""Truth: what can be read, what counts as a fact, and when it holds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.data.shapes import Background, Scene, ShapesRecipe, Thing, judge
from blip_edge.data.shapes.language import captions
from blip_edge.data.shapes.truth import parse
from blip_edge.data.shapes.words import COLOURS, SHAPES, SIZES, TEXTURES
from blip_edge.data.shapes.world import World


def _thing(words: str, row: int, column: int) -> Thing:
    size, texture, colour, shape = words.split()
    return Thing(
        shape=shape, colour=colour, size=size, texture=texture, row=row, column=column,
        x=(column + 0.5) / 3, y=(row + 0.5) / 3, radius=0.1, rgb=(0, 0, 0),
    )  # fmt: skip


SCENE = Scene(
    things=(
        _thing("small plain red circle", 0, 0),
        _thing("large plain red circle", 0, 2),
        _thing("large striped blue square", 2, 0),
    ),
    background=Background(kind="flat", first=(200, 200, 200), second=(200, 200, 200)),
    side=3,
)


@pytest.mark.parametrize(
    "caption",
    [
        "a small red circle in the top left",
        "A small red circle in the top left.",
        "there is a large striped square in the bottom left",
        "in the top right there is a large circle",
        "the picture shows a small red circle above a blue square",
        "a small red circle is left of a large red circle",
        "a red circle in the top right is right of a blue square",
        "two red circles and a blue square",
        "two circles are above a striped square",
        "there are two red things and one square",
        "a circle and a circle and a blue square",
        "a red circle right of a red circle",
    ],
)
def test_true(caption: str) -> None:
    verdict = judge(caption, SCENE)
    assert verdict.parsed
    assert verdict.facts >= 3
    assert verdict.true


@pytest.mark.parametrize(
    ("caption", "facts"),
    [
        ("a small red circle in the top right", 4),
        ("a small red circle right of a large red circle", 7),
        ("a small red circle left of a blue square", 6),  # the same column: neither left nor right
        ("three red circles and a square", 4),
        ("one red circle and a blue square", 5),
        ("a red circle and a red circle and a red circle", 6),  # only two of them
        ("two red circles and a small circle", 5),  # which would be one of the two
        ("a striped red circle", 3),
        ("a red circle", 2),  # true, but says next to nothing
    ],
)
def test_false(caption: str, facts: int) -> None:
    verdict = judge(caption, SCENE)
    assert (verdict.parsed, verdict.facts, verdict.true) == (True, facts, False)


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a",
        "small red circle in the top left",
        "a small red",
        "a red small circle in the top left",
        "a small red circle in the",
        "a small red circle in the top",
        "a small red circle in the top left of",
        "a small red circle in the top left a",
        "a small red circle a blue square",
        "a small red circle left of",
        "a red circle and",
        "two red circle and a blue square",
        "a red circles in the top left",
        "there are a small red circle",
        "there is two red circles",
        "two red circles is above a square",
        "there is there is a small red circle",
        "two red circles in the top left",
        "zero red circles and a blue square",
        "a red red circle in the top left",
        "a small red circle in the top left and in the top left",
        "a small red dog in the top left",
    ],
)
def test_what_cannot_be_read_is_false(caption: str) -> None:
    verdict = judge(caption, SCENE)
    assert (verdict.parsed, verdict.facts, verdict.true) == (False, 0, False)


RECIPES = (
    ShapesRecipe(),
    ShapesRecipe(objects=1, textures=1, sizes=2, places=2),
    ShapesRecipe(objects=2, textures=1, sizes=1, places=2, colours=2, shapes=3),
    ShapesRecipe(objects=9, textures=4, colours=10, shapes=8),
)
WORLDS = [World(recipe, seed=3) for recipe in RECIPES]
some_world = st.sampled_from(WORLDS)
some_number = st.integers(0, 10**6)


@settings(max_examples=150, deadline=None)
@given(some_world, some_number)
def test_every_caption_is_true_of_its_scene(world: World, number: int) -> None:
    scene = world.picture("train", number).scene
    texts = captions(scene, world.recipe, np.random.default_rng(number))
    assert len(texts) == 5
    assert len(set(texts)) > 1
    for text in texts:
        verdict = judge(text, scene)
        assert (verdict.parsed, verdict.true) == (True, True), text
        assert verdict.facts >= 3


@settings(max_examples=150, deadline=None)
@given(some_world, some_number, st.integers(0, 10**6))
def test_one_wrong_word_makes_a_caption_false(world: World, number: int, choice: int) -> None:
    scene = world.picture("val", number).scene
    text = captions(scene, world.recipe, np.random.default_rng(number))[0]
    shown = {
        value
        for thing in scene.things
        for value in (thing.size, thing.texture, thing.colour, thing.shape)
    }
    words = text.split()
    wrong = [
        [*words[:index], other, *words[index + 1 :]]
        for index, word in enumerate(words)
        for sort in (SIZES, TEXTURES, COLOURS, SHAPES)
        if word in sort
        for other in sort
        if other not in shown
    ]
    if wrong:
        verdict = judge(" ".join(wrong[choice % len(wrong)]), scene)
        assert (verdict.parsed, verdict.true) == (True, False)


@settings(max_examples=100, deadline=None)
@given(some_world, some_number)
def test_a_caption_without_its_first_or_last_word_cannot_be_read(world: World, number: int) -> None:
    scene = world.picture("train", number).scene
    for text in captions(scene, world.recipe, np.random.default_rng(number)):
        words = text.split()
        assert parse(" ".join(words[1:])) is None
        assert parse(" ".join(words[:-1])) is None


@settings(max_examples=60, deadline=None)
@given(some_number)
def test_moving_the_only_thing_makes_its_caption_false(number: int) -> None:
    world = WORLDS[1]
    scene = world.picture("train", number).scene
    thing = scene.things[0]
    elsewhere = replace(scene, things=(replace(thing, row=1 - thing.row),))
    text = captions(scene, world.recipe, np.random.default_rng(number))[0]
    assert not judge(text, elsewhere).true


def test_the_easy_world_speaks_in_three_short_templates() -> None:
    world = WORLDS[1]
    starts = set()
    for number in range(100):
        scene = world.picture("train", number).scene
        for text in captions(scene, world.recipe, np.random.default_rng(number)):
            thing = scene.things[0]
            noun = f"a {thing.size} {thing.colour} {thing.shape} in the {scene.place(thing)}"
            assert text.endswith(noun)
            assert len(text.split()) <= 12
            starts.add(text.removesuffix(noun))
    assert starts == {"", "there is ", "the picture shows "}
