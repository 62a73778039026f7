"""A model folder: what was saved is what is opened, and files that do not belong are named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from blip_edge.errors import ArtifactError
from blip_edge.models import Model, load_model, save_model
from tests import tiny

TEXTS = ["a red circle", "a small blue square", "two green stars"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    folder = tmp_path_factory.mktemp("folder") / "model"
    folder.mkdir()
    model = tiny.model(TEXTS)
    save_model(folder, model)
    return folder, model


@pytest.fixture
def folder(saved: tuple[Path, Model], tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    for path in saved[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@torch.no_grad()
def test_a_saved_folder_loads_equal(saved: tuple[Path, Model]) -> None:
    folder, model = saved
    again = load_model(folder)
    assert again.config == model.config
    assert again.generation == model.generation
    assert again.preprocess == model.preprocess
    ids, _ = model.tokenizer.encode(TEXTS[:2], first="dec")
    assert (again.tokenizer.encode(TEXTS[:2], first="dec")[0] == ids).all()
    pictures, tokens = torch.randn(2, 3, 24, 24), torch.from_numpy(ids).long()
    logits = [m.blip.lm_logits(tokens, m.blip.vision_model(pictures)) for m in (model, again)]
    assert torch.equal(*logits)
    assert not again.blip.training


def test_the_files_are_those_of_hugging_face(saved: tuple[Path, Model]) -> None:
    assert {path.name for path in saved[0].iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_saving_twice_gives_the_same_bytes(saved: tuple[Path, Model], tmp_path: Path) -> None:
    save_model(tmp_path, saved[1])
    for path in saved[0].iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
    ],
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name} is missing"):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json"])
def test_a_cut_off_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    with pytest.raises(ArtifactError, match=name):
        load_model(folder)


def test_no_folder_at_all() -> None:
    with pytest.raises(ArtifactError, match="nowhere is not a folder"):
        load_model(Path("nowhere"))


def test_pixels_of_another_size_than_the_networks_are_refused(folder: Path) -> None:
    change(folder / "preprocessor_config.json", size={"height": 32, "width": 32})
    with pytest.raises(ArtifactError, match="32 pixels, but the model takes 24"):
        load_model(folder)


def test_a_vocabulary_larger_than_the_embedding_is_refused(folder: Path) -> None:
    """An id beyond the embedding is an IndexError in the middle of a data set."""
    tiny.model([*TEXTS, "quick brown foxes jump over lazy dogs"]).tokenizer.save(folder)
    with pytest.raises(ArtifactError, match=r"tokenizer has \d+ ids, the model embeds \d+"):
        load_model(folder)


def test_a_config_of_another_network_is_refused(folder: Path) -> None:
    text = json.loads((folder / "config.json").read_text())["text_config"]
    change(folder / "config.json", text_config={**text, "num_hidden_layers": 3})
    with pytest.raises(ArtifactError, match=r"model\.safetensors does not fit .*missing"):
        load_model(folder)


def test_a_config_for_larger_pictures_gets_positions_to_match(folder: Path) -> None:
    """Pre-trained at 224 pixels, tuned at 384: BLIP's own way."""
    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    change(folder / "config.json", vision_config={**vision, "image_size": 32})
    change(folder / "preprocessor_config.json", size={"height": 32, "width": 32})
    assert load_model(folder).blip.vision_model(torch.zeros(1, 3, 32, 32)).shape == (1, 17, 32)


def test_a_folder_of_lists_is_one_line(folder: Path) -> None:
    for name in ("config.json", "generation_config.json", "preprocessor_config.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_text("[1]")
        with pytest.raises(ArtifactError, match=name):
            load_model(folder)
        (folder / name).write_bytes(whole)
