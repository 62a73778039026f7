"""`train` from pretrained towers and at other picture sizes, as a user types it."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import TINY_MODEL
from tests.conftest import Run

torch = pytest.importorskip("torch")

WIDTH = 64


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A DeiT of one layer at 2 x 2 patches of 16 pixels."""
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 5, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
        "head.weight": (10, WIDTH),
        "head.bias": (10,),
    }
    for name, out, into in (
        ("attn.qkv", 3 * WIDTH, WIDTH),
        ("attn.proj", WIDTH, WIDTH),
        ("mlp.fc1", 4 * WIDTH, WIDTH),
        ("mlp.fc2", WIDTH, 4 * WIDTH),
    ):
        shapes |= {f"blocks.0.{name}.weight": (out, into), f"blocks.0.{name}.bias": (out,)}
    for norm in ("blocks.0.norm1", "blocks.0.norm2", "norm"):
        shapes |= {f"{norm}.weight": (WIDTH,), f"{norm}.bias": (WIDTH,)}
    path = tmp_path / "vit.pth"
    torch.save({"model": {n: torch.randn(shape) / 8 for n, shape in shapes.items()}}, path)
    return path


def test_towers_are_named_on_the_command_line(
    run: Run, data: Path, vit: Path, tmp_path: Path
) -> None:
    code, out, err = run(
        *("train", "--data", data, "-o", tmp_path / "new", "--vision-init", vit), *TINY_MODEL
    )
    assert code == 0
    assert "32 px, 1 layer 64 wide" in out
    lines = err.splitlines()
    assert "left behind: classifier head, 2 tensors (head.weight, head.bias)" in lines
    assert "fresh: text tower" in lines


def test_another_picture_size(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "tuned"
    how = ("--set", "steps=1", "--set", "batch=2", "--set", "image_size=48", "--quiet")
    assert run("train", "--data", data, "--init", model, "-o", output, *how)[0] == 0
    assert json.loads((output / "config.json").read_text())["vision_config"]["image_size"] == 48
    assert json.loads((output / "preprocessor_config.json").read_text())["size"]["height"] == 48


@pytest.mark.parametrize(
    ("flags", "code", "reason"),
    [
        (("--init", "{tmp}/m", "--vision-init", "{tmp}/vit.pth"), 2, "--init is a whole model"),
        (("--init", "{tmp}/m", "--text-init", "{tmp}/bert"), 2, "--init is a whole model"),
        (("--vision-init", "{tmp}/none.pth"), 3, "none.pth: there is no such file"),
        (("--text-init", "{tmp}/none"), 3, "none is not a folder"),
        (("--text-init", "{data}"), 3, "config.json is missing"),
        (("--vision-init", "{data}/dataset.json"), 3, "is no file that torch.save wrote"),
        (
            ("--vision-init", "{tmp}/vit.pth", "--set", "image_size=40"),
            2,
            "the nearest are 32 and 48",
        ),
    ],
)
def test_what_cannot_be_started_from(
    run: Run,
    data: Path,
    vit: Path,
    tmp_path: Path,
    flags: tuple[str, ...],
    code: int,
    reason: str,
) -> None:
    words = [word.replace("{tmp}", str(tmp_path)).replace("{data}", str(data)) for word in flags]
    before = set(tmp_path.rglob("*"))
    got, out, err = run("train", "--data", data, "-o", tmp_path / "x", *words)
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert reason in err
    assert set(tmp_path.rglob("*")) == before
