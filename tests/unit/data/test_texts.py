"""Texts that a vocabulary must cover: a word that is left out is spelled by letters, or lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blip_edge.data import Dataset
from blip_edge.data.texts import texts_of, training_texts
from blip_edge.errors import ArtifactError

Write = Callable[[dict[str, Any]], Dataset]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A data set with the given annotation files."""

    def write(files: dict[str, Any]) -> Dataset:
        header = {"name": "toy", "version": "1", "license": "CC0-1.0"}
        for name, value in {"dataset.json": header, **files}.items():
            (tmp_path / name).write_text(json.dumps(value))
        return Dataset.open(tmp_path)

    return write


def pair(caption: str) -> dict[str, str]:
    return {"image": "a.png", "caption": caption}


def asked(question: str, *answers: str) -> dict[str, Any]:
    return {"question_id": 1, "image": "a.png", "question": question, "answer": list(answers)}


def test_pairs_of_every_kind_are_cleaned(write: Write) -> None:
    data = write(
        {
            "caption_train.json": [pair("A Cat!")],
            "web_train.json": [pair("buy (now)")],
            "retrieval_train.json": [pair("two dogs.")],
            "caption_val.json": [{"image": "a.png", "caption": ["a whale"]}],
        }
    )
    assert list(texts_of(data)) == ["a cat", "buy now", "two dogs"]


def test_each_caption_of_a_list_is_a_text(write: Write) -> None:
    data = write({"caption_train.json": [{"image": "a.png", "caption": ["a cat", "two dogs"]}]})
    assert list(texts_of(data)) == list(training_texts(data)) == ["a cat", "two dogs"]


def test_captions_are_as_long_as_training_reads_them(write: Write) -> None:
    data = write({"caption_train.json": [pair(" ".join(map(str, range(50))))]})
    assert [len(text.split()) for text in texts_of(data)] == [30]
    assert [len(text.split()) for text in texts_of(data, max_words=45)] == [45]


def test_answers_are_as_they_are_spelled(write: Write) -> None:
    """Training does not clean them: of "10:30" a vocabulary must have the colon."""
    data = write(
        {
            "vqa_train.json": [asked("What time is it?", "10:30", "noon")],
            "vqa_vg.json": [asked("Who?", "a man.")],
            "vqa_val.json": [asked("Where is the whale?", "sea")],
            "answer_list.json": ["yes", "St. Paul"],
        }
    )
    texts = set(texts_of(data))
    assert texts >= {"what time is it?", "10:30", "noon", "who?", "a man.", "yes", "St. Paul"}
    assert not any("whale" in text for text in texts)


def test_sentences_are_there_for_exchanged_pictures_too(write: Write) -> None:
    row = {"sentence": "The left one is red.", "label": "True", "images": ["a.png", "b.png"]}
    data = write({"nlvr_train.json": [row]})
    assert set(texts_of(data)) == {"the left one is red", "the right one is red"}


def test_wrong_answers_of_a_dialog_are_read_too(write: Write) -> None:
    turn = {"question": 0, "answer": 0, "answer_options": [0, 1], "gt_index": 0}
    dialog = {"image_id": 1, "caption": "A zoo.", "dialog": [turn]}
    body = {"questions": ["Is it sunny"], "answers": ["yes!", "a llama"], "dialogs": [dialog]}
    data = write({"visdial_train.json": {"version": "1.0", "split": "train", "data": body}})
    assert {text.strip("? ") for text in texts_of(data)} == {
        *("a zoo", "is it sunny", "yes", "a llama")
    }


def test_texts_have_the_files_own_order(write: Write) -> None:
    """Of texts in another order the same words get other ids."""
    options = [f"number {n}" for n in range(20)]
    turn = {"question": 0, "answer": 0, "answer_options": list(range(20)), "gt_index": 0}
    dialog = {"image_id": 1, "caption": "A zoo.", "dialog": [turn]}
    body = {"questions": ["how many"], "answers": options, "dialogs": [dialog]}
    data = write({"visdial_train.json": {"version": "1.0", "split": "train", "data": body}})
    assert list(texts_of(data))[-20:] == options


def test_without_captions_the_other_texts_make_the_vocabulary(write: Write) -> None:
    """`data prepare vqa` writes questions alone; a model of them starts from nothing too."""
    data = write({"vqa_train.json": [asked("Who?", "a man.")], "answer_list.json": ["yes"]})
    assert list(training_texts(data)) == list(texts_of(data))
    assert {"who?", "a man", "yes"} <= set(training_texts(data))
    (data.folder / "vqa_train.json").unlink()
    (data.folder / "retrieval_train.json").write_text(json.dumps([pair("two dogs.")]))
    assert list(training_texts(data)) == ["two dogs", "yes"]
    data = write({"caption_train.json": [pair("a cat")]})
    assert list(training_texts(data)) == ["a cat"], "as it always was"


def test_all_that_a_vocabulary_is_learned_from_is_there(drawn: Dataset) -> None:
    assert set(texts_of(drawn)) >= set(training_texts(drawn))


def test_a_data_set_without_texts_is_named(write: Write) -> None:
    test = {"image": "a.png", "caption": ["a whale"]}
    with pytest.raises(ArtifactError, match="has no texts to train on") as error:
        texts_of(write({"caption_test.json": [test]}))
    assert error.value.exit_code == 3
