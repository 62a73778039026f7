"""Evaluation of questions, sentences, retrieval, pairs and attributes, over models that are rules.

A model here looks at a picture's first pixel and nothing else, so that every figure can be worked
out by hand.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.evaluation import EvalSettings, evaluate_loaded, score_predictions
from blip_edge.evaluation.attributes import phrases
from blip_edge.runtime.results import Answer, Match, Reason
from blip_edge.text import Tokenizer

COLOURS = ["red", "green", "blue", "white"]
F32 = NDArray[np.float32]


class Rule:
    """Knows four colours; what it does with them is told."""

    def __init__(self, *, wrong: str | None = None) -> None:
        self.wrong = wrong
        self.reads = 0

    def see(self, picture: Image.Image) -> str:
        pixel = picture.getpixel((0, 0))
        found = next(c for c in COLOURS if Image.new("RGB", (1, 1), c).getpixel((0, 0)) == pixel)
        return "green" if found == self.wrong else found

    def vector(self, text: str) -> F32:
        return np.array([colour in text for colour in COLOURS], dtype=np.float32)

    def answer(
        self,
        image: list[Image.Image],
        question: list[str],
        answers: Sequence[str] | None = None,
        /,
        **how: int | None,
    ) -> list[Any]:
        self.how = how
        said = [Answer(self.see(picture), 1.0) for picture in image]
        return said if answers is None else [[one, Answer("never", 0.0)] for one in said]

    def reason(
        self, left: list[Image.Image], right: list[Image.Image], sentence: list[str], /
    ) -> list[Reason]:
        same = [self.see(a) == self.see(b) for a, b in zip(left, right, strict=True)]
        return [Reason("True" if one else "False", 1.0) for one in same]

    def embed_image(self, image: list[Image.Image], /) -> F32:
        return np.stack([self.vector(self.see(picture)) for picture in image])

    def embed_text(self, text: list[str], /) -> F32:
        return np.stack([self.vector(one) for one in text])

    def itm_logits(self, image: Image.Image, texts: Sequence[str], /) -> F32:
        self.reads += len(texts)
        fits = np.array([self.see(image) in text for text in texts], dtype=np.float32)
        return np.stack([-fits, fits], axis=1)

    def match(self, image: Image.Image, texts: Sequence[str], /) -> list[Match]:
        fits = self.itm_logits(image, texts)[:, 1]
        return [Match(text, float(fit), float(fit)) for text, fit in zip(texts, fits, strict=True)]

    tokenizer = Tokenizer.train(["what colour is it red green blue white no"] * 9, 90)
    dialog_length = 60

    def dialog_scores(self, image: Image.Image, caption: str, texts: Sequence[str], /) -> F32:
        """The later of a dialog's words decide."""
        seen = self.see(image)
        fits = [seen == text.rpartition("[SEP] ")[2] for text in texts]
        return np.array(fits, dtype=np.float32) + np.array(
            [0.5 * (text.endswith("white")) for text in texts], dtype=np.float32
        )


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value))


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Four pictures of a colour each, and every task's rows about them."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for colour in COLOURS:
        Image.new("RGB", (6, 4), colour).save(folder / "images" / f"{colour}.png")
    write(folder, "dataset.json", {"name": "four", "version": "1", "license": "CC0-1.0"})
    write(
        folder,
        "caption_test.json",
        [{"image": f"{c}.png", "caption": [f"a {c} one", f"all {c}"]} for c in COLOURS],
    )
    write(
        folder,
        "vqa_test.json",
        [
            {"question_id": n, "image": f"{c}.png", "question": "what is it?", "answer": [c] * 10}
            for n, c in enumerate(COLOURS)
        ],
    )
    write(
        folder,
        "nlvr_test.json",
        [
            {
                "identifier": f"test-0-{n}-0",
                "sentence": "both are of one colour",
                "label": str(a == b),
                "images": [f"{a}.png", f"{b}.png"],
            }
            for n, (a, b) in enumerate([("red", "red"), ("red", "blue"), ("white", "green")])
        ],
    )
    write(
        folder,
        "pairs_test.json",
        [
            {"image": f"{c}.png", "text": f"a {d} thing", "label": int(c == d)}
            for c in COLOURS
            for d in COLOURS
        ],
    )
    write(
        folder,
        "attributes_test.json",
        {
            "images": [
                {"id": n, "width": 6, "height": 4, "file_name": f"{c}.png"}
                for n, c in enumerate(COLOURS)
            ],
            "categories": [{"id": 0, "name": "thing"}],
            "attributes": [
                {"id": 0, "name": "colour:red/crimson", "is_has_att": "is", "freq_set": "head"},
                {"id": 1, "name": "colour:green", "is_has_att": "is", "freq_set": "tail"},
            ],
            "annotations": [
                {
                    "id": n,
                    "image_id": n,
                    "bbox": [0.0, 0.0, 3.0, 2.0],
                    "category_id": 0,
                    "att_vec": [int(c == "red"), int(c == "green")],
                }
                for n, c in enumerate(COLOURS)
            ],
        },
    )
    return Dataset.open(folder)


def evaluated(data: Dataset, task: str, model: Rule | None = None, **how: Any) -> Any:
    return evaluate_loaded(model or Rule(), data, task, "test", EvalSettings(**how))


PERFECT = {
    "vqa": ["vqa_accuracy"],
    "nlvr2": ["accuracy", "consistency"],
    "retrieval": ["txt_r1", "txt_r10", "img_r1", "img_r5", "r_mean"],
    "pairs": ["ROC-AUC", "ROC-AUC-itc"],
    "attributes": ["mAP", "mAP-head", "mAP-tail"],
}


@pytest.mark.parametrize("task", PERFECT)
def test_who_is_always_right_gets_a_hundred(data: Dataset, task: str) -> None:
    found = evaluated(data, task)
    assert {name: found.metrics[name] for name in PERFECT[task]} == dict.fromkeys(
        PERFECT[task], pytest.approx(100)
    )
    assert found.as_json()["task"] == task
    assert evaluated(data, task, batch=1) == found


@pytest.fixture
def talk(data: Dataset) -> Dataset:
    """Four dialogs of one round, of which two were judged."""
    dialogs = [
        {
            "image_id": n,
            "image": f"{c}.png",
            "caption": "something",
            "dialog": [{"question": 0, "answer": n, "answer_options": [0, 1, 2, 3], "gt_index": n}],
        }
        for n, c in enumerate(COLOURS)
    ]
    tables = {"questions": ["what colour is it"], "answers": COLOURS}
    write(
        data.folder, "visdial_test.json", {"version": "1.0", "data": {**tables, "dialogs": dialogs}}
    )
    dense = [
        {"image_id": n, "round_id": 1, "gt_relevance": [float(m == n) for m in range(4)]}
        for n in (0, 3)
    ]
    write(data.folder, "visdial_test_dense.json", dense)
    return data


def test_answers_in_a_dialog_are_ranked(talk: Dataset) -> None:
    found = evaluated(talk, "visdial")
    assert found.items == 4
    perfect = {"MRR": 100, "R@1": 100, "mean_rank": 1, "NDCG": 100}
    assert {name: found.metrics[name] for name in perfect} == pytest.approx(perfect)
    worse = evaluated(talk, "visdial", Rule(wrong="blue")).metrics
    # Blue's answer scores nothing, and so do two others; white's half a point goes before them.
    assert worse["R@1"] == pytest.approx(75)
    assert worse["mean_rank"] == pytest.approx((1 + 1 + 4 + 1) / 4)
    (talk.folder / "visdial_test_dense.json").unlink()
    assert "NDCG" not in evaluated(talk, "visdial").metrics


def test_who_takes_blue_for_green_pays_for_it(data: Dataset) -> None:
    model = Rule(wrong="blue")
    assert evaluated(data, "vqa", model).metrics["vqa_accuracy"] == pytest.approx(75)
    # Blue's texts are nobody's; its picture finds green's, and shares green's places.
    retrieval = evaluated(data, "retrieval", model).metrics
    assert retrieval["txt_r1"] == pytest.approx(75)
    assert evaluated(data, "attributes", model).metrics["mAP-tail"] == pytest.approx(50)
    assert evaluated(data, "pairs", model).metrics["ROC-AUC"] < 100


def test_a_listed_answer_is_ranked_and_a_free_one_generated(data: Dataset) -> None:
    model = Rule()
    evaluated(data, "vqa", model, beams=2)
    assert model.how == {"beams": 2}
    write(data.folder, "answer_list.json", COLOURS)
    found = evaluated(data, "vqa", model, k=3)
    assert model.how == {"k": 3}
    assert found.metrics["vqa_accuracy"] == pytest.approx(100)
    assert found.predictions[0] == {"question_id": 0, "answer": "red"}


def test_hidden_answers_leave_the_predictions(data: Dataset) -> None:
    rows = json.loads((data.folder / "vqa_test.json").read_text())
    write(data.folder, "vqa_test.json", [{**row, "answer": None} for row in rows])
    found = evaluated(data, "vqa")
    assert (found.metrics, len(found.predictions)) == ({}, 4)


def test_only_the_first_k_are_read_and_others_stand_below(data: Dataset) -> None:
    model = Rule()
    found = evaluated(data, "retrieval", model, k=2)
    assert model.reads < 4 * 8  # of four pictures with eight texts
    assert found.metrics["txt_r1"] == found.metrics["img_r1"] == pytest.approx(100)


def test_a_wrong_verdict_spoils_its_whole_sentence(data: Dataset) -> None:
    found = evaluated(data, "nlvr2", Rule(wrong="white"))  # white beside green is "the same"
    assert found.metrics["accuracy"] == pytest.approx(100 * 2 / 3)
    assert found.metrics["consistency"] == 0
    assert found.predictions[2] == {"identifier": "test-0-2-0", "label": "True"}


@pytest.mark.parametrize("task", PERFECT)
def test_an_unreadable_picture_is_left_out_and_listed(data: Dataset, task: str) -> None:
    (data.folder / "images" / "white.png").write_bytes(b"no picture")
    with pytest.raises(ArtifactError, match=r"1 of 4 pictures cannot be read"):
        evaluated(data, task)
    found = evaluated(data, task, max_bad=0.5)
    assert [one.image for one in found.skipped] == ["white.png"]
    assert found.metrics[PERFECT[task][0]] == pytest.approx(100)


@pytest.mark.parametrize("task", ["vqa", "nlvr2", "pairs", "attributes", "retrieval"])
def test_a_data_set_without_the_task_says_which_file_it_lacks(tmp_path: Path, task: str) -> None:
    write(tmp_path, "dataset.json", {"name": "none", "version": "1", "license": "CC0-1.0"})
    with pytest.raises(ArtifactError, match=r"\.json"):
        evaluated(Dataset.open(tmp_path), task)


def test_a_results_file_of_answers_is_scored(data: Dataset, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    said = ["red", "green", "Blue.", "black"]
    rows = [{"question_id": n, "answer": one} for n, one in enumerate(said)]
    results.write_text(json.dumps(rows))
    found = score_predictions(results, data.folder, task="vqa")
    assert found.metrics["vqa_accuracy"] == pytest.approx(75)
    results.write_text(json.dumps(rows[:3]))
    with pytest.raises(ArtifactError, match="no answer for question_id 3"):
        score_predictions(results, data.folder, task="vqa")


def test_an_attribute_is_put_into_words() -> None:
    colour = {"name": "colour:red/crimson", "is_has_att": "is"}
    assert phrases(colour) == ["the red", "the is red", "the crimson", "the is crimson"]
    hair = {"name": "hair type:curly", "is_has_att": "has"}
    assert phrases(hair) == ["the curly hair type", "the has curly hair type"]
    skin = {"name": "hair tone:dark", "is_has_att": "has"}
    assert phrases(skin)[0] == "the dark hair"
    assert "the kids" in phrases({"name": "maturity:young/baby", "is_has_att": "is"})
