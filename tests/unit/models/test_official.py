"""Files of BLIP's authors: sizes and task follow from tensors, and what stays behind is said."""

from pathlib import Path
from typing import Any

import pytest
import torch

from blip_edge.artifact import read_provenance
from blip_edge.models.folder import load_model
from blip_edge.models.importing import import_model
from tests import official


class Listener:
    """Keeps the lines that stay."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def track(self, items: Any, description: str, *, total: int | None = None) -> Any:
        yield from items

    def note(self, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return official.write_words(tmp_path / "vocab.txt")


def test_what_stays_behind_is_said_and_counted(words: Path, tmp_path: Path) -> None:
    whole = official.checkpoint("pretrain")
    source, listener = official.write(tmp_path / "x.pth", whole), Listener()
    folder = import_model(source, tmp_path / "model", task="caption", progress=listener)
    left = read_provenance(folder).recipe["left_behind"]
    copies = [name for name in whole if "_m." in name]
    assert (left["momentum copies"], left["queues"]) == (len(copies), 3)
    lines = {line.split(",")[0].removeprefix("left behind: ") for line in listener.said}
    assert lines == left.keys() == {"momentum copies", "queues", "parts of other tasks"}
    others = ("text_encoder.", "vision_proj.", "text_proj.", "itm_head.", "temp")
    assert left["parts of other tasks"] == sum(name.startswith(others) for name in whole)
    kept = len(official.layout("caption")) + 3  # tied twice, and the numbers of positions
    assert kept + sum(left.values()) == len(whole)


@pytest.mark.parametrize("buffers", [True, False])
@pytest.mark.parametrize("bare", [True, False])
def test_the_forms_of_an_official_file(
    bare: bool, buffers: bool, words: Path, tmp_path: Path
) -> None:
    stored = official.checkpoint("caption", buffers=buffers)
    source = official.write(tmp_path / "x.pth", stored, bare=bare)
    blip = load_model(import_model(source, tmp_path / "model")).blip
    for name, theirs, _ in official.layout("caption"):
        assert torch.equal(blip.state_dict()[theirs], stored[name]), name


def test_an_official_file_says_its_sizes(words: Path, tmp_path: Path) -> None:
    source = official.write(tmp_path / "x.pth", official.checkpoint("retrieval", official.LARGE))
    model = load_model(import_model(source, tmp_path / "model"))
    vision, text = model.config.vision_config, model.config.text_config
    assert (vision.hidden_size, vision.heads, vision.layer_norm_eps) == (192, (3,) * 3, 1e-6)
    assert (vision.image_size, vision.patch_size) == (32, 8)
    assert (text.hidden_size, text.heads, text.layer_norm_eps) == (128, (2, 2), 1e-12)
    assert (text.vocab_size, text.max_position_embeddings) == (60, 24)
    assert (text.bos_token_id, text.encoder_hidden_size) == (58, 192)
    assert (model.preprocess.size, model.config.image_text_hidden_size) == (32, 32)


def test_an_answering_model_searches_as_the_papers_code_does(words: Path, tmp_path: Path) -> None:
    source = official.write(tmp_path / "x.pth", official.checkpoint("vqa"))
    search = load_model(import_model(source, tmp_path / "model")).generation
    assert (search.num_beams, search.min_length, search.max_length) == (3, 1, 10)
    assert search.prompt == ""


def test_another_picture_size_interpolates(words: Path, tmp_path: Path) -> None:
    stored = official.checkpoint("caption")
    source, listener = official.write(tmp_path / "x.pth", stored), Listener()
    folder = import_model(source, tmp_path / "model", image_size=48, progress=listener)
    model = load_model(folder)
    assert model.preprocess.size == model.config.vision_config.image_size == 48
    assert listener.said == ["position embeddings: 17 interpolated to 37"]
    old = stored["visual_encoder.pos_embed"]
    new = model.blip.vision_model.embeddings.position_embedding
    grid = old[:, 1:].reshape(1, 4, 4, 128).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, (6, 6), mode="bicubic", align_corners=False)
    torch.testing.assert_close(new[:, 1:], grid.permute(0, 2, 3, 1).reshape(1, 36, 128))
    assert torch.equal(new[:, :1], old[:, :1])


def test_settings_beside_an_official_file_are_another_models(words: Path, tmp_path: Path) -> None:
    for name in ("preprocessor_config.json", "generation_config.json", "config.json"):
        (tmp_path / name).write_text("[]")
    source = official.write(tmp_path / "x.pth", official.checkpoint("caption"))
    assert load_model(import_model(source, tmp_path / "model")).preprocess.size == 32


@pytest.mark.parametrize("as_task", ["caption", "retrieval", "vqa"])
def test_a_pretrained_model_folder_gives_its_parts_too(
    as_task: str, words: Path, tmp_path: Path
) -> None:
    """What it shares is stored once; in the part, weights are its own."""
    stored = official.checkpoint("pretrain")
    whole = import_model(official.write(tmp_path / "x.pth", stored), tmp_path / "whole")
    once = load_model(import_model(whole, tmp_path / "once", task=as_task))
    file = official.write(tmp_path / "y.pth", stored)
    again = load_model(import_model(file, tmp_path / "again", task=as_task))
    assert once.config == again.config
    for name, tensor in again.blip.state_dict().items():
        assert torch.equal(once.blip.state_dict()[name], tensor), name
