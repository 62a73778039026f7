"""Figures of parts of a split, and splits whose truth is hidden."""

import json
from pathlib import Path
from typing import Any

import pytest

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError, MissingExtraError
from blip_edge.evaluation import (
    CaptionSet,
    EvalSettings,
    Evaluation,
    agreement,
    evaluate_loaded,
    score_predictions,
)
from blip_edge.metrics import Score, cider
from tests.unit.evaluation.conftest import write
from tests.unit.evaluation.rule import COLOURS, Rule

TYPES = [("what colour", "other"), ("what colour", "other"), ("is it", "yes/no"), None]
DOMAINS = ["in-domain", "out-domain", "in-domain", "near-domain"]


def evaluated(data: Dataset, task: str) -> Evaluation:
    return evaluate_loaded(Rule(wrong="blue"), data, task, "test", EvalSettings())


def test_accuracy_by_type(data: Dataset) -> None:
    """Of blue's question the answer is wrong, and the last question says no type."""
    rows = json.loads((data.folder / "vqa_test.json").read_text())
    for row, types in zip(rows, TYPES, strict=True):
        row |= dict(zip(("question_type", "answer_type"), types, strict=True)) if types else {}
    write(data.folder, "vqa_test.json", rows)
    found = evaluated(data, "vqa")
    assert found.metrics == {"vqa_accuracy": pytest.approx(75)}
    right, wrong = {"items": 2, "vqa_accuracy": 100}, {"items": 1, "vqa_accuracy": 0}
    assert found.as_json()["groups"] == {
        "perAnswerType": {"other": right, "yes/no": wrong},
        "perQuestionType": {"is it": wrong, "what colour": right},
    }


@pytest.mark.parametrize("task", ["vqa", "caption", "nlvr2"])
def test_rows_that_say_nothing_make_no_groups(data: Dataset, task: str) -> None:
    assert "groups" not in evaluated(data, task).as_json()


@pytest.fixture
def nocaps(data: Dataset) -> Dataset:
    rows = json.loads((data.folder / "caption_test.json").read_text())
    named = zip(rows, DOMAINS, strict=True)
    write(
        data.folder,
        "caption_test.json",
        [{**row, "image_id": n, "domain": d} for n, (row, d) in enumerate(named)],
    )
    return data


def test_each_domain_is_a_set_of_its_own(nocaps: Dataset) -> None:
    found = evaluated(nocaps, "caption")
    domains = found.groups["perDomain"]
    assert list(domains) == ["in-domain", "near-domain", "out-domain", "overall"]
    assert [row["items"] for row in domains.values()] == [2, 1, 1, 4]
    assert domains["overall"]["CIDEr"] == found.metrics["CIDEr"]
    said = {row["image_id"]: row["caption"] for row in found.predictions}
    meant = {n: [f"a {c} one", f"all {c}"] for n, c in enumerate(COLOURS)}
    own = cider({n: said[n] for n in (0, 2)}, {n: meant[n] for n in (0, 2)}).mean
    assert domains["in-domain"]["CIDEr"] == pytest.approx(100 * own)
    assert own != pytest.approx(cider(said, meant).mean)
    assert domains["near-domain"]["CIDEr"] == 0  # over one picture every weight is log 1


def test_spice_where_it_can_be_computed(nocaps: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [0.1, 0.2, 0.3, 0.8]

    def spice(said: dict[Any, str], meant: dict[Any, Any]) -> Score[Any]:
        return Score(sum(shares) / 4, dict(zip(said, shares, strict=True)))

    monkeypatch.setattr(agreement, "spice_missing", lambda: None)
    monkeypatch.setattr(agreement, "spice", spice)
    found = evaluated(nocaps, "caption")
    assert found.metrics["SPICE"] == pytest.approx(35)
    by_domain = {name: row["SPICE"] for name, row in found.groups["perDomain"].items()}
    expected = {"in-domain": 20, "near-domain": 80, "out-domain": 20, "overall": 35}
    assert by_domain == pytest.approx(expected)
    assert found.notes == ()

    def fails(said: object, meant: object) -> Score[Any]:
        raise MissingExtraError("SPICE's Java program failed")

    monkeypatch.setattr(agreement, "spice", fails)
    found = evaluated(nocaps, "caption")
    assert "SPICE" not in found.metrics
    assert found.notes == ("without SPICE: SPICE's Java program failed",)


def test_without_spices_programs_the_rest_is_there(
    nocaps: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "spice_missing", lambda: "there is no java command")
    found = evaluated(nocaps, "caption")
    assert found.notes == ("without SPICE: there is no java command",)
    assert set(found.groups["perDomain"]["overall"]) == {"items", "CIDEr"}


def test_of_hidden_captions_there_are_the_predictions(data: Dataset, tmp_path: Path) -> None:
    rows = [{"image": f"{c}.png", "img_id": n} for n, c in enumerate(COLOURS)]
    write(data.folder, "caption_test.json", rows)
    found = evaluated(data, "caption")
    assert (found.metrics, found.items) == ({}, 4)
    assert found.predictions[0] == {"image_id": 0, "caption": "a red one"}
    assert "caption_test.json has no captions: nothing can be scored" in found.notes[0]
    write(tmp_path, "results.json", found.predictions)
    assert score_predictions(tmp_path / "results.json", data.folder) == found
    with pytest.raises(ArtifactError, match=r"red\.png of test has no texts to be found"):
        evaluated(data, "retrieval")
    write(data.folder, "caption_test.json", [*rows[1:], {**rows[0], "caption": ["a dog"]}])
    with pytest.raises(ArtifactError, match=r"green\.png has no captions, which other pictures"):
        evaluated(data, "caption")


def test_captions_without_a_word_are_told(data: Dataset) -> None:
    rows = json.loads((data.folder / "caption_test.json").read_text())
    rows[1]["caption"] = ["...", "a green one"]
    rows[2]["caption"] = ["!", ""]
    write(data.folder, "caption_test.json", rows)
    found = evaluated(data, "caption")
    (note,) = found.notes
    assert note.endswith("a caption of green.png and 2 more has no words, and agrees with none")
    captions = CaptionSet.read(data.folder, "test")
    ids = [sample.image_id for sample in captions.samples]
    blank = agreement.judge_captions(captions, dict.fromkeys(ids, "?"))
    assert blank.metrics["CIDEr"] == blank.metrics["ROUGE-L"] == 0
    assert evaluated(data, "retrieval").items == 4
