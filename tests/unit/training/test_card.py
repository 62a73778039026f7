"""A model's README says what it is, and repeats what is known of the texts that it learned from."""

import json
from pathlib import Path

import pytest

from blip_edge.artifact import Provenance
from blip_edge.data import Dataset
from blip_edge.models.config import Architecture
from blip_edge.training.card import write_model_card
from tests.tiny import model

MADE = Provenance(
    verb="train",
    recipe={"steps": 7, "batch": 2, "lr": 0.1},
    parents=[{"path": "runs/before", "sha256": "ab12"}],
    version="1",
    seconds=1.0,
)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    folder = tmp_path / "data"
    folder.mkdir()
    header = {"name": "birds", "version": "3", "license": "CC0-1.0"}
    (folder / "dataset.json").write_text(json.dumps(header))
    return Dataset.open(folder)


def _card(folder: Path, data: Dataset | None, architecture: Architecture) -> str:
    write_model_card(folder, "small", model(["a bird"], architecture), MADE, data)
    return (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("architecture", "call"),
    [
        ("BlipForConditionalGeneration", "model.caption("),
        ("BlipForImageTextRetrieval", "model.match("),
        ("BlipForQuestionAnswering", "model.answer("),
        ("BlipForPreTraining", "model.caption("),
        ("BlipForImagesAndTextClassification", "model.reason("),
    ],
)
def test_it_says_what_it_does_and_from_what(
    tmp_path: Path, data: Dataset, architecture: Architecture, call: str
) -> None:
    said = _card(tmp_path, data, architecture)
    assert said.startswith("# small\n")
    assert call in said
    assert "birds 3, licence CC0-1.0" in said
    assert "steps 7, batch 2, lr 0.1" in said
    assert "From before, sha256 `ab12`" in said
    assert "filter" not in said


def test_it_repeats_the_limits_of_bootstrapped_texts(tmp_path: Path, data: Dataset) -> None:
    nothing = {"distinct_captions": None}
    found = {
        "web": {
            "texts": 1000,
            "kept": 600,
            "diversity": nothing,
            "truth": {"right_of_kept": 0.95},
        },
        "synthetic": {"texts": 800, "kept": 700, "diversity": {"distinct_captions": 0.75}},
        "disliked": [{"word": "click"}, {"word": "here"}],
    }
    (data.folder / "capfilt.json").write_text(json.dumps(found))
    said = _card(tmp_path, data, "BlipForPreTraining")
    assert "Of 1,000 texts of the web a filter kept 600; of those 5.0% are wrong." in said
    assert "Of 800 texts that a model wrote a filter kept 700; 25.0% say what another says." in said
    assert "The filter dropped most of what says click, here." in said


def test_without_a_folder_of_data_it_still_says_what_is_known(tmp_path: Path) -> None:
    said = _card(tmp_path, None, "BlipForConditionalGeneration")
    assert "Data:" not in said
    assert "It knows what its data shows;" in said
