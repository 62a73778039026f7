"""Evaluation of questions, sentences, retrieval, pairs and attributes, over models that are rules,
so that every figure can be worked out by hand.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.evaluation import EvalSettings, evaluate_loaded, score_predictions
from blip_edge.evaluation.attributes import phrases
from tests.unit.evaluation.conftest import write
from tests.unit.evaluation.rule import COLOURS, Rule


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
    assert not {"skipped", "notes"} & set(found.as_json())
    assert evaluated(data, task, batch=1) == found


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
    evaluated(data, "vqa", model)
    assert model.how == {"k": 128}, "as BLIP is measured"
    found = evaluated(data, "vqa", model, k=3)
    assert model.how == {"k": 3}
    assert found.metrics["vqa_accuracy"] == pytest.approx(100)
    assert found.predictions[0] == {"question_id": 0, "answer": "red"}


def test_hidden_answers_leave_the_predictions(data: Dataset) -> None:
    rows = json.loads((data.folder / "vqa_test.json").read_text())
    write(data.folder, "vqa_test.json", [{**row, "answer": None} for row in rows])
    found = evaluated(data, "vqa")
    assert (found.metrics, len(found.predictions)) == ({}, 4)
    [note] = found.as_json()["notes"]
    assert note.endswith("vqa_test.json has no answers: nothing can be scored")


def test_only_the_first_k_are_read_and_others_stand_below(data: Dataset) -> None:
    model = Rule()
    found = evaluated(data, "retrieval", model, k=2)
    assert model.reads < 4 * 8  # of four pictures with eight texts
    assert found.metrics["txt_r1"] == found.metrics["img_r1"] == pytest.approx(100)


class Reads(Rule):
    """Finds all pictures alike, and counts what it is given to read."""

    def itm_logits(self, image: Image.Image, texts: Sequence[str], /) -> Any:
        self.reads += len(texts)
        return np.zeros((len(texts), 2), dtype=np.float32)


def test_256_are_read_unless_told_otherwise(data: Dataset) -> None:
    """As BLIP is measured on COCO; there is one more picture than that here."""
    red = (data.folder / "images" / "red.png").read_bytes()
    for number in range(257):
        (data.folder / "images" / f"{number}.png").write_bytes(red)
    rows = [{"image": f"{number}.png", "caption": [f"red {number}"]} for number in range(257)]
    write(data.folder, "retrieval_test.json", rows)
    reads = []
    for how in ({}, {"k": 256}, {"k": 257}):
        model = Reads()
        evaluated(data, "retrieval", model, **how)
        reads.append(model.reads)
    assert reads[0] == reads[1] < reads[2] == 257 * 257


def test_a_text_of_several_pictures_is_read_once_with_each_of_them(data: Dataset) -> None:
    shared = {"image": "red.png", "caption": ["a red one", "the same one", "the same one"]}
    other = {"image": "green.png", "caption": ["a green one", "the same one"]}
    write(data.folder, "retrieval_test.json", [shared, other])
    model = Rule()
    found = evaluated(data, "retrieval", model)
    assert model.reads == 2 * 3  # of two pictures with three different texts
    # It scores alike for both, and a tie is nobody's first place.
    assert found.metrics["img_r1"] == pytest.approx(100 * 2 / 5)
    assert found.metrics["txt_r1"] == pytest.approx(100)


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
    [listed] = found.as_json()["skipped"]
    assert (listed["image"], "cannot be decoded" in listed["reason"]) == ("white.png", True)
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
