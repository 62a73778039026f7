"""VQAv2 and Visual Genome: questions, ten people's answers, and the answers that are ranked."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_edge.data import QuestionRow, check
from blip_edge.data.prepare.questions import _frequent
from blip_edge.errors import ArtifactError
from tests.unit.data.prepare.conftest import Prepare, Write, skipped


def questions(subtype: str, *rows: tuple[int, int, str]) -> dict[str, Any]:
    asked = [{"question_id": q, "image_id": image, "question": text} for q, image, text in rows]
    return {"info": {}, "data_type": "mscoco", "data_subtype": subtype, "questions": asked}


def annotations(subtype: str, *rows: tuple[int, list[str]]) -> dict[str, Any]:
    notes = [
        {
            "question_id": number,
            "image_id": number // 1000,
            "question_type": "what is",
            "answer_type": "other",
            "multiple_choice_answer": Counter(answers).most_common(1)[0][0],
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": place}
                for place, answer in enumerate(answers, start=1)
            ],
        }
        for number, answers in rows
    ]
    return {"info": {}, "data_subtype": subtype, "annotations": notes}


TEN = ["net"] * 7 + ["netting"] * 3
ASKED = questions("train2014", (458752000, 458752, "What is this photo taken looking through?"))
ANSWERED = annotations("train2014", (458752000, TEN))


@pytest.fixture
def official(write: Write) -> list[Path]:
    """VQAv2's training questions and annotations, one of each."""
    return [
        write("v2_OpenEnded_mscoco_train2014_questions.json", ASKED),
        write("v2_mscoco_train2014_annotations.json", ANSWERED),
    ]


def test_official_questions_meet_their_answers(
    official: list[Path], prepared: Prepare, pictures: Callable[..., Path]
) -> None:
    image = "train2014/COCO_train2014_000000458752.jpg"
    data = prepared("vqa", official, images=pictures(image), min_answers=1)
    asked = "What is this photo taken looking through?"
    assert data.questions("train") == [
        QuestionRow("458752000", image, asked, tuple(TEN), "what is", "other")
    ]
    assert data.answers() == ["net"]
    assert check(data).ok


def test_hidden_test_sets_have_no_answers(write: Write, prepared: Prepare) -> None:
    test = questions("test2015", (1000, 1, "Is it?"), (2000, 2, "Is it two?"))
    dev = questions("test-dev2015", (1000, 1, "Is it?"))
    sources = [
        write("v2_OpenEnded_mscoco_test2015_questions.json", test),
        write("v2_OpenEnded_mscoco_test-dev2015_questions.json", dev),
    ]
    data = prepared("vqa", sources)
    assert data.questions("test")[1].image == "test2015/COCO_test2015_000000000002.jpg"
    assert data.questions("testdev")[0].image == "test2015/COCO_test2015_000000000001.jpg"
    assert data.questions("test")[0].answers == ()
    assert not data.has("answer_list.json")


def test_visual_genome_is_a_split_of_its_own(
    official: list[Path], write: Write, prepared: Prepare, pictures: Callable[..., Path]
) -> None:
    asked = {"a_objects": [], "question": "What colour is the clock?", "image_id": 1, "qa_id": 986}
    genome = [{"id": 1, "qas": [{**asked, "answer": "Green."}]}]
    root = pictures("coco/COCO_train2014_000000458752.jpg", "VG_100K/1.jpg")
    sources = [*official, write("question_answers.json", genome)]
    data = prepared("vqa", sources, images=root)
    assert data.questions("vg") == [
        QuestionRow("986", "VG_100K/1.jpg", "What colour is the clock?", ("green",))
    ]
    assert len(data.questions("train")) == 1


def test_blips_own_rows_and_answer_list(write: Write, prepared: Prepare) -> None:
    row = {"question_id": 7, "image": "val2014/a.jpg", "question": "what?", "dataset": "vqa"}
    folder = write("vqa_val.json", [{**row, "answer": ["cat"] * 6 + ["dog"] * 4}]).parent
    genome = {"image": "image/1.jpg", "question": "who?", "answer": "a man", "question_id": 1}
    write("vg_qa.json", [{**genome, "dataset": "vg"}])
    write("vqa_test.json", [row])
    write("answer_list.json", ["yes", "no"])
    data = prepared("vqa", folder)
    assert data.questions("val")[0].answers == ("cat",) * 6 + ("dog",) * 4
    assert data.questions("vg")[0].answers == ("a man",)
    assert data.questions("test")[0].answers == ()
    assert data.answers() == ["yes", "no"]


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [(["yes", "no", "yes"], "'yes' more than once"), (["yes", " "], "an empty answer")],
)
def test_answer_lists_that_cannot_be_ranked(
    official: list[Path], write: Write, prepared: Prepare, answers: list[str], complaint: str
) -> None:
    with pytest.raises(ArtifactError, match=rf"answer_list\.json holds {complaint}"):
        prepared("vqa", [*official, write("answer_list.json", answers)])


def test_what_is_missing_is_named(official: list[Path], prepared: Prepare) -> None:
    with pytest.raises(ArtifactError, match=r"questions\.json has no answers beside it"):
        prepared("vqa", official[:1])
    with pytest.raises(ArtifactError, match=r"annotations\.json has answers, but no questions"):
        prepared("vqa", official[1:])


def test_a_question_without_annotation_is_listed(write: Write, prepared: Prepare) -> None:
    asked = questions("val2014", (1000, 1, "Is it?"), (2000, 2, "?"), (3000, 3, " "))
    notes = annotations("val2014", (2000, TEN), (3000, TEN))
    sources = [
        write("v2_OpenEnded_mscoco_val2014_questions.json", asked),
        write("v2_mscoco_val2014_annotations.json", notes),
    ]
    data = prepared("vqa", sources, max_bad=0.7)
    assert [row.question_id for row in data.questions("val")] == ["2000"]
    first, second = skipped(data)
    assert "questions: row 0" in first
    assert "no annotation" in first
    assert "questions: row 2" in second
    assert "empty" in second


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(1, 20)), st.integers(1, 20)
)
def test_frequent_answers_are_all_of_them_in_one_order(counts: dict[str, int], least: int) -> None:
    found = _frequent(Counter(counts), least)
    assert set(found) == {answer for answer, count in counts.items() if count >= least}
    keys = [(-counts[answer], answer) for answer in found]
    assert keys == sorted(keys)
