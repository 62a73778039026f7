"""Annotation files of the drawn world: official fields, and answers that the scenes bear out.

Answers are worked out again here from the scenes alone, without the code that made them.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from blip_edge.data import Dataset
from blip_edge.data.shapes import Scene, ShapesRecipe, Thing, judge, read_scenes
from blip_edge.data.shapes.clips import clip
from blip_edge.data.shapes.web import web
from blip_edge.data.shapes.words import COLOURS, NUMBERS, PLURALS, SHAPES, SIZES, TEXTURES
from blip_edge.data.shapes.world import World

SINGULARS = {plural: noun for noun, plural in PLURALS.items()}
DIRECTIONS: dict[str, Callable[[Thing, Thing], bool]] = {
    "left of": lambda a, b: a.x < b.x and a.column != b.column,
    "right of": lambda a, b: a.x > b.x and a.column != b.column,
    "above": lambda a, b: a.y < b.y and a.row != b.row,
    "below": lambda a, b: a.y > b.y and a.row != b.row,
}
BETWEEN = rf"(.+) ({'|'.join(DIRECTIONS)}) (.+)"


@pytest.fixture(params=["drawn", "easy"])
def data(request: pytest.FixtureRequest) -> Dataset:
    found: Dataset = request.getfixturevalue(request.param)
    return found


def _read(data: Dataset, file: str) -> Any:
    return json.loads((data.folder / file).read_text())


def _like(words: str, scene: Scene) -> list[Thing]:
    """The things that "a small red circle" or "red circles" describe."""
    found = list(scene.things)
    for word in words.split():
        word = SINGULARS.get(word, word)
        if word not in ("a", "an", "the", "one", "thing"):
            assert word in (*SIZES, *TEXTURES, *COLOURS, *SHAPES), word
            found = [t for t in found if word in (t.size, t.texture, t.colour, t.shape)]
    return found


def _only(words: str, scene: Scene) -> Thing:
    (thing,) = _like(words, scene)
    return thing


def _place(thing: Thing, side: int) -> str:
    row = ("top", "middle", "bottom")[round(thing.row * 2 / (side - 1))]
    column = ("left", "centre", "right")[round(thing.column * 2 / (side - 1))]
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def _answer(question: str, scene: Scene) -> str:
    question = question.removesuffix("?")
    if match := re.fullmatch(
        rf"what (colour|shape) is the thing ({'|'.join(DIRECTIONS)}) (.+)", question
    ):
        anchor = _only(match[3], scene)
        (thing,) = (t for t in scene.things if DIRECTIONS[match[2]](t, anchor))
        return str(getattr(thing, match[1]))
    if match := re.fullmatch(r"what (colour|shape|size|texture) (?:is|has) (.+)", question):
        return str(getattr(_only(match[2], scene), match[1]))
    if match := re.fullmatch(r"where is (.+)", question):
        return _place(_only(match[1], scene), scene.side)
    if match := re.fullmatch(r"how many (.+) are there", question):
        return str(len(_like(match[1], scene)))
    if match := re.fullmatch(r"is there (.+)", question):
        return "yes" if _like(match[1], scene) else "no"
    match = re.fullmatch(rf"is {BETWEEN}", question)
    assert match, question
    first, second = _only(match[1], scene), _only(match[3], scene)
    assert (
        first.row != second.row if match[2] in ("above", "below") else first.column != second.column
    )
    return "yes" if DIRECTIONS[match[2]](first, second) else "no"


def _holds(sentence: str, left: Scene, right: Scene) -> bool:
    scenes = {"left": left, "right": right}
    if match := re.fullmatch(r"both pictures show (.+)", sentence):
        return all(_like(match[1], scene) for scene in scenes.values())
    if match := re.fullmatch(r"only one of the pictures shows (.+)", sentence):
        return sum(bool(_like(match[1], scene)) for scene in scenes.values()) == 1
    if match := re.fullmatch(
        r"the left picture shows (.+) and the right picture shows (.+)", sentence
    ):
        return bool(_like(match[1], left)) and bool(_like(match[2], right))
    if match := re.fullmatch(r"there (?:is|are) (\w+) (.+) in the two pictures together", sentence):
        total = sum(len(_like(match[2], scene)) for scene in scenes.values())
        return total == NUMBERS.index(match[1])
    if match := re.fullmatch(r"the (\w+) picture shows more (.+) than the (\w+) picture", sentence):
        return len(_like(match[2], scenes[match[1]])) > len(_like(match[2], scenes[match[3]]))
    match = re.fullmatch(rf"at least one of the pictures shows {BETWEEN}", sentence)
    assert match, sentence
    return any(
        first is not second and DIRECTIONS[match[2]](first, second)
        for scene in scenes.values()
        for first in _like(match[1], scene)
        for second in _like(match[3], scene)
    )


def test_caption_rows(data: Dataset) -> None:
    train, test = _read(data, "caption_train.json"), _read(data, "caption_test.json")
    assert set(train[0]) == set(test[0]) == {"image", "caption", "image_id"}
    assert isinstance(train[0]["caption"], str)
    assert len(train) == 24 * 5
    assert all(len(row["caption"]) == 5 for row in test)
    ids = [row.image_id for split in ("val", "test", "test_unseen") for row in data.captions(split)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("split", ["train", "val", "test", "test_unseen"])
def test_captions_are_true(data: Dataset, split: str) -> None:
    scenes = read_scenes(data.folder, split)
    for row in data.captions(split):
        assert all(judge(caption, scenes[row.image]).true for caption in row.captions)


def test_pictures_have_the_size_asked_for(data: Dataset) -> None:
    with Image.open(data.image_path(data.captions("val")[0].image)) as image:
        assert (image.size, image.mode) == ((32, 32), "RGB")


def test_questions_are_answered_by_the_scene(data: Dataset) -> None:
    answers = data.answers()
    assert len(set(answers)) == len(answers)
    for split in ("train", "val", "test"):
        scenes = read_scenes(data.folder, split)
        rows = data.questions(split)
        assert len({row.question_id for row in rows}) == len(rows)
        for row in rows:
            (common, votes), *_ = Counter(row.answers).most_common()
            assert common == _answer(row.question, scenes[row.image]), row
            assert 7 <= votes <= len(row.answers) == 10
            assert set(row.answers) <= set(answers)


def test_people_sometimes_disagree(drawn: Dataset) -> None:
    agreed = [len(set(row.answers)) == 1 for row in drawn.questions("train")]
    assert 0.4 < sum(agreed) / len(agreed) < 0.95


def test_question_rows_have_the_official_fields(data: Dataset) -> None:
    row = _read(data, "vqa_test.json")[0]
    types = {"question_type", "answer_type"}
    assert set(row) == {"question_id", "image", "question", "answer"} | types


def test_questions_say_their_types(drawn: Dataset) -> None:
    asked = {(row.question_type, row.answer_type) for row in drawn.questions("train")}
    types = {kind for kind, _ in asked}
    assert {"how many", "is there", "is the", "where is", "what colour"} <= types
    known = {"how many": "number", "is there": "yes/no", "is the": "yes/no"}
    assert all(answer == known.get(str(kind), "other") for kind, answer in asked)


@pytest.mark.parametrize(("split", "home"), [("train", "train"), ("dev", "val"), ("test", "test")])
def test_sentences_are_labelled_by_the_scenes(data: Dataset, split: str, home: str) -> None:
    scenes = read_scenes(data.folder, home)
    rows = data.sentences(split)
    assert len(rows) > 0
    for row in rows:
        left, right = (scenes[image] for image in row.images)
        assert row.label == _holds(row.sentence, left, right), row
    labels: dict[str, set[bool]] = {}
    for row in rows:
        labels.setdefault(row.identifier.split("-")[1], set()).add(row.label)
    assert all(both == {True, False} for both in labels.values())


def test_sentence_rows_have_the_official_fields(data: Dataset) -> None:
    row = _read(data, "nlvr_dev.json")[0]
    assert set(row) == {"identifier", "sentence", "label", "images"}
    assert row["label"] in ("True", "False")
    assert re.fullmatch(r"dev-\d+-[01]-0", row["identifier"])


@pytest.mark.parametrize("split", ["train", "val"])
def test_dialogs_give_the_true_answer(data: Dataset, split: str) -> None:
    scenes = read_scenes(data.folder, split)
    dialogs = data.dialogs(split)
    assert len(dialogs) == 4
    for dialog in dialogs:
        scene = scenes[dialog.image]
        assert judge(dialog.caption, scene).true
        assert len(dialog.rounds) == 10
        for one in dialog.rounds:
            assert len(set(one.options)) == len(one.options) == 100
            answer = _answer(one.question, scene)
            given = one.options[one.gt].removesuffix(" i think").removeprefix("maybe ")
            assert given == answer
            if one.relevance is not None:
                assert one.relevance[one.gt] == 1
                worth = dict(zip(one.options, one.relevance, strict=True))
                assert {text for text, value in worth.items() if value} == {
                    answer, f"{answer} i think", f"maybe {answer}",
                }  # fmt: skip
        assert sum(one.relevance is not None for one in dialog.rounds) == 1


def test_dialogs_have_the_official_fields(data: Dataset) -> None:
    document = _read(data, "visdial_val.json")
    assert (document["version"], document["split"]) == ("1.0", "val")
    assert set(document["data"]) == {"questions", "answers", "dialogs"}
    one = document["data"]["dialogs"][0]["dialog"][0]
    assert set(one) == {"question", "answer", "answer_options", "gt_index"}
    assert one["answer_options"][one["gt_index"]] == one["answer"]
    dense = _read(data, "visdial_val_dense.json")[0]
    assert set(dense) == {"image_id", "round_id", "gt_relevance"}
    assert len(dense["gt_relevance"]) == 100


def test_web_captions_are_as_clean_as_their_key_says(data: Dataset, recipe: ShapesRecipe) -> None:
    scenes, key = read_scenes(data.folder, "web"), _read(data, "web_train_key.json")
    rows = data.web()
    assert set(_read(data, "web_train.json")[0]) == {"image", "caption"}
    assert [row.image for row in rows] == [row["image"] for row in key]
    for row, hidden in zip(rows, key, strict=True):
        assert judge(row.captions[0], scenes[row.image]).true == hidden["clean"]
    share = sum(not row["clean"] for row in key) / len(key)
    assert 0.15 < share < 0.65
    assert {row["kind"] for row in key} == {"true", "other", "swapped", "vague"}


def test_wrong_web_captions_are_wrong_in_the_smallest_world() -> None:
    recipe = ShapesRecipe(
        objects=1, sizes=1, textures=1, places=2, colours=2, shapes=2, web_noise=1
    )
    world = World(recipe)
    pictures = [world.picture("web", index) for index in range(200)]
    rows, key = web(world, pictures)
    assert not any(row["clean"] for row in key)
    for picture, row in zip(pictures, rows, strict=True):
        assert not judge(row["caption"], picture.scene).true


def test_queries_fit_or_do_not(data: Dataset) -> None:
    scenes = read_scenes(data.folder, "test")
    rows = data.queries()
    assert {row["label"] for row in _read(data, "pairs_test.json")} == {0, 1}
    for row in rows:
        assert row.label == bool(_like(row.text, scenes[row.image]))


def test_attributes_are_those_of_the_box(data: Dataset) -> None:
    scenes = read_scenes(data.folder, "test")
    attributes, boxes = data.boxes()
    assert {"id", "name", "type", "is_has_att", "freq_set"} <= set(attributes[0])
    assert len(boxes) == sum(len(scene.things) for scene in scenes.values())
    for box in boxes:
        left, top, width, height = (value / 32 for value in box.xywh)
        middle = (left + width / 2, top + height / 2)
        thing = min(
            scenes[box.image].things,
            key=lambda t: abs(t.x - middle[0]) + abs(t.y - middle[1]),
        )
        held = {
            attribute["name"]
            for attribute, label in zip(attributes, box.attributes, strict=True)
            if label == 1
        }
        assert held == {
            f"colour:{thing.colour}", f"size:{thing.size}", f"texture:{thing.texture}",
        }  # fmt: skip


STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@pytest.mark.parametrize("index", range(6))
def test_what_moves_goes_where_the_caption_says(tmp_path: Path, index: int) -> None:
    recipe = ShapesRecipe(objects=1, textures=1, backgrounds=1, noise=0, image_size=48, frames=3)
    world = World(recipe, seed=1)
    row, _ = clip(world, world.picture("clips", index), tmp_path)
    middles = []
    with Image.open(tmp_path / f"{row['clip_name']}.png") as pictures:
        for frame in ImageSequence.Iterator(pictures):
            pixels = np.asarray(frame.convert("RGB"), np.int64)
            rows, columns = np.nonzero(np.abs(pixels - pixels[0, 0]).sum(2) > 60)
            middles.append((columns.mean(), rows.mean()))
    assert len(middles) == 3
    across, down = STEPS[row["caption"].rpartition(" ")[2]]
    for (x, y), (next_x, next_y) in pairwise(middles):
        assert np.sign(round((next_x - x) / 4)) == across
        assert np.sign(round((next_y - y) / 4)) == down


def test_clips_move(data: Dataset) -> None:
    clips, questions = data.clips(), data.clip_questions()
    assert [row.clip for row in clips] == ["video0", "video1", "video2"]
    assert {row.clip for row in questions} == {row.clip for row in clips}
    for row in clips:
        with Image.open(data.clip_path(row.clip)) as clip:
            frames = [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(clip)]
        assert len(set(frames)) == len(frames) == 4
        asked = {one.question: one.answer for one in questions if one.clip == row.clip}
        assert f" moves {asked['where does it move?']}" in row.caption
        mover = row.caption.split(" moves ")[0].split()
        assert asked["what colour is the thing that moves?"] in mover
        assert asked["what shape is the thing that moves?"] in mover
