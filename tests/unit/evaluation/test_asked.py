"""What a test split asks: every row of a task, in its order, with its own words first."""

from pathlib import Path

import pytest

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.asked import asked_of
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.engine import Task
from tests.unit.evaluation.rule import COLOURS


def names(asked: Asked) -> list[str]:
    return [Path(str(image)).stem for image in asked.images]


@pytest.mark.parametrize("task", ["caption", "retrieval", "vqa"])
def test_every_row_asks_about_its_picture(data: Dataset, task: Task) -> None:
    assert [names(one) for one in asked_of(data, task)] == [[colour] for colour in COLOURS]
    assert [names(one) for one in asked_of(data, task, 2)] == [[c] for c in COLOURS[:2]]


def test_a_picture_is_compared_with_its_own_text_and_then_with_others(data: Dataset) -> None:
    for colour, one in zip(COLOURS, asked_of(data, "retrieval"), strict=True):
        assert colour in one.texts[0]
        assert len(set(one.texts)) == 3
        assert not any(colour in text for text in one.texts[1:])


def test_a_sentence_is_about_two_pictures_and_a_caption_has_no_text(data: Dataset) -> None:
    rows = data.sentences("test")
    said = list(asked_of(data, "nlvr2"))
    assert [one.texts for one in said] == [(row.sentence,) for row in rows]
    assert [names(one) for one in said] == [[Path(i).stem for i in row.images] for row in rows]
    assert {one.texts for one in asked_of(data, "caption")} == {()}
    assert {one.texts for one in asked_of(data, "vqa")} == {("what is it?",)}


def test_a_task_without_rows_is_named(data: Dataset) -> None:
    (data.folder / "vqa_test.json").unlink()
    with pytest.raises(ArtifactError, match="vqa_test"):
        list(asked_of(data, "vqa"))
