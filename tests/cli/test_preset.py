"""`export --preset`: what is taken from a device's profile, and what wins over it."""

from pathlib import Path
from typing import Any

import pytest

import blip_edge.exporters
from tests.conftest import Run

pytest.importorskip("torch")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, model: Path) -> dict[str, Any]:
    """What export was asked for; a copy of the model stands in for the bundle."""
    heard: dict[str, Any] = {"model": model}

    def export(model: Path, output: Path, **told: Any) -> Path:
        heard.update(told)
        return Path(model).rename(output)

    monkeypatch.setattr(blip_edge.exporters, "export", export)
    return heard


def test_target_precision_and_limits_come_from_the_profile(
    run: Run, asked: dict[str, Any], tmp_path: Path
) -> None:
    code, _, err = run("export", asked["model"], "--preset", "iphone-ane", "-o", tmp_path / "out")
    assert code == 0
    recipe = asked["recipe"]
    assert (asked["target"], recipe.precision, recipe.ios) == ("coreml", "fp16", 17)
    assert recipe.image_input
    assert "threads" not in err, "a phone has no command line, and Core ML takes no threads"


def test_threads_are_said_where_they_can_be_set(
    run: Run, asked: dict[str, Any], tmp_path: Path
) -> None:
    _, _, err = run("export", asked["model"], "--preset", "rpi5", "-o", tmp_path / "out")
    assert "run it with 4 threads there" in err


def test_flags_and_recipes_win(run: Run, asked: dict[str, Any], tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("image_input = false\nios = 17\n")
    argv = ("--preset", "iphone-ane", "--precision", "fp32", "--recipe", mine, "--set", "ios=18")
    code, _, _ = run("export", asked["model"], *argv, "-o", tmp_path / "out")
    recipe = asked["recipe"]
    assert (code, recipe.precision, recipe.ios, recipe.image_input) == (0, "fp32", 18, False)


def test_a_given_target_wins(run: Run, asked: dict[str, Any], tmp_path: Path) -> None:
    argv = ("--preset", "rpi5", "--target", "openvino", "-o", tmp_path / "out")
    assert run("export", asked["model"], *argv)[0] == 0
    assert (asked["target"], asked["recipe"].precision) == ("openvino", "int8")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--preset", "iphone-an"), "did you mean 'iphone-ane'"),
        (("--preset", "this"), "peaks only"),
        ((), "give --target, or --preset"),
    ],
)
def test_bad_input_is_a_usage_error(
    run: Run, tmp_path: Path, argv: tuple[str, ...], words: str
) -> None:
    code, _, err = run("export", tmp_path / "model", *argv, "-o", tmp_path / "out")
    assert code == 2
    assert words in err
    assert not (tmp_path / "out").exists()
