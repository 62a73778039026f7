"""Batches of questions, sentences and dialogs: what a row becomes, and which become nothing."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from blip_edge.data import Dataset, Dialog, QuestionRow, Round, SentenceRow
from blip_edge.data.dialog_texts import dialog_texts
from blip_edge.data.shapes import make
from blip_edge.errors import ArtifactError
from blip_edge.preprocess import Preprocess
from blip_edge.progress import SILENT
from blip_edge.text import Tokenizer, exchange_sides
from blip_edge.training.batches import (
    DialogBatches,
    Nlvr2Batches,
    RowBatches,
    VqaBatches,
)
from blip_edge.training.objectives import DialogObjective, Nlvr2Objective, VqaObjective
from blip_edge.training.recipe import TrainRecipe
from tests import tiny

PIXELS = Preprocess(size=24)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    recipe = replace(tiny.WORLD, dialogs=2, questions=2)
    return make(tmp_path_factory.mktemp("tasks") / "world", recipe, seed=3)


@pytest.fixture(scope="module")
def words(data: Dataset) -> Tokenizer:
    texts = [text for row in data.questions("train") for text in (row.question, *row.answers)]
    texts += [row.sentence for row in data.sentences("train")]
    texts += [turn.question for row in data.dialogs("train") for turn in row.rounds]
    return Tokenizer.train([*texts, "the left dog is on the right and one two three"], 300)


@pytest.fixture(scope="module")
def pictures(data: Dataset) -> list[str]:
    return list(dict.fromkeys(row.image for row in data.captions("train")))


def texts_of(words: Tokenizer, ids: Tensor) -> list[str]:
    return [words.decode(row.tolist()) for row in ids]


def question(image: str, answers: tuple[str, ...], text: str = "Is (it) red?") -> QuestionRow:
    return QuestionRow("1", image, text, answers)


def test_an_answer_weighs_as_much_as_the_people_who_gave_it(
    data: Dataset, words: Tokenizer, pictures: list[str]
) -> None:
    ten = ("two",) * 6 + ("three", "one", "two", "one")
    rows = [question(pictures[0], ten), question(pictures[1], ("red",)), question(pictures[2], ten)]
    batch = next(iter(VqaBatches(data, rows, words, PIXELS, batch=3, seed=0)))
    found: dict[int, dict[str, float]] = {}
    answers = texts_of(words, batch.answer_ids)
    for answer, to, weight in zip(answers, batch.question, batch.weights, strict=True):
        found.setdefault(int(to), {})[answer] = round(float(weight), 6)
    many, only = {"two": 0.7, "three": 0.1, "one": 0.2}, {"red": 0.2}
    assert sorted(found.values(), key=len) == [only, many, many]
    assert texts_of(words, batch.input_ids) == ["is it red?"] * 3
    assert batch.weights.dtype == torch.float32 and batch.question.dtype == torch.int64
    alone = next(number for number, answers in found.items() if answers == only)
    assert torch.equal(batch.pixel_values[alone], _picture(data, pictures[1]))


def _picture(data: Dataset, image: str) -> Tensor:
    return torch.from_numpy(PIXELS([data.image_path(image)])[0])


def test_long_questions_and_answers_are_cut(
    data: Dataset, words: Tokenizer, pictures: list[str]
) -> None:
    rows = [question(pictures[0], ("one " * 90,), "is it red " * 40)]
    batch = next(iter(VqaBatches(data, rows, words, PIXELS, batch=1, seed=0)))
    assert batch.input_ids.shape == (1, 35)
    assert batch.answer_ids.shape == (1, 92)
    short = VqaBatches(data, rows, words, PIXELS, batch=1, seed=0, max_answer_length=9)
    assert next(iter(short)).answer_ids.shape == (1, 9)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (("",), "has no answer"),
        ((), "has no answer"),
        (("red",), "has no words"),
    ],
)
def test_questions_of_no_use_are_left_out_and_listed(
    data: Dataset,
    words: Tokenizer,
    pictures: list[str],
    bad: tuple[str, ...],
    why: str,
    tmp_path: Path,
) -> None:
    rows = [question(pictures[0], ("red",)), question(pictures[1], bad)]
    if why.endswith("words"):
        rows[1] = replace(rows[1], question="(.) ?")
    made = VqaBatches(data, rows, words, PIXELS, batch=1, seed=0, max_bad=0.5)
    assert made.per_epoch == 1
    made.report(tmp_path, SILENT)
    assert why in (tmp_path / "skipped.jsonl").read_text()
    with pytest.raises(ArtifactError, match=f"1 of 2 rows.*{why}"):
        VqaBatches(data, rows, words, PIXELS, batch=1, seed=0)


@pytest.mark.parametrize(
    ("sentence", "other"),
    [
        ("the left dog sees the right one", "the right dog sees the left one"),
        ("a bright leftover in the leftmost bowl", "a bright leftover in the rightmost bowl"),
        ("two dogs", "two dogs"),
    ],
)
def test_left_and_right_are_exchanged(sentence: str, other: str) -> None:
    assert exchange_sides(sentence) == other
    assert exchange_sides(other) == sentence


def test_pictures_change_places_with_their_words(
    data: Dataset, words: Tokenizer, pictures: list[str]
) -> None:
    rows = [SentenceRow("0", "The left dog is red.", True, (pictures[0], pictures[1]))] * 40
    one, other = _picture(data, pictures[0]), _picture(data, pictures[1])
    swapped = []
    for batch in islice(Nlvr2Batches(data, rows, words, PIXELS, batch=8, seed=0, swap=0.5), 5):
        for number, text in enumerate(texts_of(words, batch.input_ids)):
            pair = (batch.left[number], batch.right[number])
            swapped.append("right" in text)
            expected = (other, one) if swapped[-1] else (one, other)
            assert all(torch.equal(a, b) for a, b in zip(pair, expected, strict=True))
        assert batch.labels.tolist() == [1] * 8
    assert 10 < sum(swapped) < 30
    still = next(iter(Nlvr2Batches(data, rows, words, PIXELS, batch=40, seed=0)))
    assert set(texts_of(words, still.input_ids)) == {"the left dog is red"}


def test_a_sentence_needs_both_its_pictures(
    data: Dataset, words: Tokenizer, pictures: list[str]
) -> None:
    rows = [
        SentenceRow("0", "one is red", True, (pictures[0], "gone.png")),
        SentenceRow("1", "one is red", False, (pictures[1], pictures[2])),
    ]
    made = Nlvr2Batches(data, rows, words, PIXELS, batch=2, seed=0, max_bad=0.5)
    assert next(iter(made)).labels.tolist() == [0]
    assert list(made.skipped) == ["gone.png"]


def talk(image: str, options: tuple[str, ...] = ("yes", "no", "two", "no")) -> Dialog:
    rounds = tuple(Round(q, options, 0, None) for q in ("Is it red?", "How many dogs?"))
    return Dialog(1, image, "A red dog.", rounds)


def test_a_question_has_its_true_answer_and_some_that_are_not(
    data: Dataset, words: Tokenizer, pictures: list[str]
) -> None:
    made = DialogBatches(data, [talk(pictures[0])], words, PIXELS, batch=2, seed=0, negatives=2)
    for batch in islice(made, 3):
        assert batch.labels.tolist() == [1, 0, 0, 1, 0, 0]
        assert texts_of(words, batch.caption_ids) == ["a red dog"] * 2
        texts = texts_of(words, batch.input_ids)
        first, second = sorted((texts[:3], texts[3:]), key=lambda three: len(three[0]))
        assert first[0] == "is it red? yes"
        assert second[0] == "is it red? yes how many dogs? yes"
        for three in (first, second):
            assert {text.rsplit(" ", 1)[1] for text in three[1:]} == {"no", "two"}


@pytest.mark.parametrize("negatives", [1, 2, 5])
def test_more_wrong_answers_than_there_are_come_more_than_once(
    data: Dataset, words: Tokenizer, pictures: list[str], negatives: int
) -> None:
    rows = [talk(pictures[0], ("yes", "no")), talk(pictures[1], ("yes", "no", "two"))]
    made = DialogBatches(data, rows, words, PIXELS, batch=4, seed=0, negatives=negatives)
    batch = next(iter(made))
    assert batch.labels.view(4, -1).tolist() == [[1] + [0] * negatives] * 4
    endings = [text.rsplit(" ", 1)[1] for text in texts_of(words, batch.input_ids)]
    true = batch.labels.bool().tolist()
    assert all((ending == "yes") == right for ending, right in zip(endings, true, strict=True))


def test_questions_without_a_wrong_answer_are_left_out(
    data: Dataset, words: Tokenizer, pictures: list[str]
) -> None:
    rows = [talk(pictures[0], ("yes", "yes")), talk(pictures[1])]
    assert DialogBatches(data, rows, words, PIXELS, batch=1, seed=0, max_bad=0.5).per_epoch == 2
    with pytest.raises(ArtifactError, match="has no wrong answer"):
        DialogBatches(data, rows, words, PIXELS, batch=1, seed=0)


def test_of_a_long_history_the_oldest_rounds_go(words: Tokenizer) -> None:
    rounds = tuple(
        Round(f"{number} dogs?", ("yes", "no no no"), 0, None) for number in ("one", "two", "three")
    )
    dialog = Dialog(1, "x.png", "", rounds)
    whole = "two dogs? [SEP] yes [SEP] three dogs? [SEP] no no no"

    def longest(max_length: int) -> str:
        return dialog_texts(dialog, 2, ["yes", "no no no"], words, max_length)[1]

    length = words.encode([whole], max_length=512)[0].shape[1]
    assert longest(99) == f"one dogs? [SEP] yes [SEP] {whole}"
    assert longest(length) == whole
    assert longest(length - 1) == "three dogs? [SEP] no no no"
    assert longest(1) == "three dogs? [SEP] no no no"


def batches_of(kind: str, data: Dataset, words: Tokenizer, **how: Any) -> RowBatches[Any, Any]:
    if kind == "vqa":
        return VqaBatches(data, data.questions("train"), words, PIXELS, **how)
    if kind == "nlvr2":
        return Nlvr2Batches(data, data.sentences("train"), words, PIXELS, swap=0.5, **how)
    return DialogBatches(data, data.dialogs("train"), words, PIXELS, negatives=3, **how)


@pytest.mark.parametrize("kind", ["vqa", "nlvr2", "dialog"])
def test_the_drawn_world_trains_every_task(kind: str, data: Dataset, words: Tokenizer) -> None:
    recipe = TrainRecipe(label_smoothing=0.0)
    batch = next(iter(batches_of(kind, data, words, batch=4, seed=0)))
    if kind == "vqa":
        sizes = tiny.config("BlipForQuestionAnswering", vocab=words.vocab_size)
        task: Any = VqaObjective(tiny.lively(sizes), words, recipe)
    elif kind == "nlvr2":
        sizes = tiny.config("BlipForImagesAndTextClassification", vocab=words.vocab_size)
        task = Nlvr2Objective(tiny.lively(_long(sizes)), words)
    else:
        sizes = tiny.config("BlipForImageTextRetrieval", vocab=words.vocab_size)
        task = DialogObjective(tiny.lively(_long(sizes, hidden_size=32)), words)
    (loss,) = task(batch, 0).values()
    assert loss.isfinite()


def _long(sizes: Any, **how: Any) -> Any:
    text = replace(sizes.text_config, max_position_embeddings=256, **how)
    return replace(sizes, text_config=text)
