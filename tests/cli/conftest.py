"""Small folders for the command line to work on."""

from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Run

TINY_WORLD = (
    *("--train", "12", "--val", "3", "--test", "3", "--objects", "1"),
    *("--set", "unseen=0", "--set", "web=0", "--set", "clips=0", "--set", "dialogs=0"),
    *("--set", "image_size=32"),
)
TINY_MODEL = (
    *("--set", "steps=2", "--set", "batch=4", "--set", "image_size=32", "--set", "patch_size=16"),
    *("--set", "vision_layers=1", "--set", "vision_width=16", "--set", "vision_heads=2"),
    *("--set", "text_layers=1", "--set", "text_width=16", "--set", "text_heads=2"),
    *("--set", "vocab_size=80", "--set", "max_positions=64", "--set", "embed_dim=8"),
)


@pytest.fixture
def data(run: Run, tmp_path: Path) -> Path:
    """A drawn world of 18 pictures."""
    output = tmp_path / "data"
    code, _, err = run("data", "make", "shapes", "-o", output, *TINY_WORLD, "--quiet")
    assert (code, err) == (0, "")
    return output


@pytest.fixture
def model(run: Run, data: Path, tmp_path: Path) -> Path:
    """A captioner that has hardly learnt anything."""
    pytest.importorskip("torch")
    output = tmp_path / "model"
    code, _, err = run("train", "--data", data, "-o", output, *TINY_MODEL, "--quiet")
    assert (code, err) == (0, "")
    return output


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture with a name that markup and shells could trip over."""
    path = tmp_path / "a [red] square.png"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(path)
    return path
