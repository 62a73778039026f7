"""The page and the plot of the picture book's runs say what their record says."""

import copy
import importlib.util
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MAX_BYTES = 200_000


@pytest.fixture(scope="module")
def program() -> Any:
    """benchmarks/picturebook_curves.py, as a module."""
    file = ROOT / "benchmarks" / "picturebook_curves.py"
    spec = importlib.util.spec_from_file_location("picturebook_curves", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kept(program: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(program.RECORD.read_text(encoding="utf-8"))
    return record


def test_the_page_has_the_table_of_the_record(program: Any, kept: dict[str, Any]) -> None:
    page = program.PAGE.read_text(encoding="utf-8")
    assert program.with_table(page, kept) == page
    assert program.BEGIN in page and program.END in page


def test_the_plot_is_of_the_recorded_curves(program: Any, kept: dict[str, Any]) -> None:
    plot = program.PLOT.read_text(encoding="utf-8")
    assert program.digest(kept) in plot
    assert len(plot) < MAX_BYTES


def test_a_drawing_carries_its_curves_and_both_starts(
    program: Any, kept: dict[str, Any], tmp_path: Path
) -> None:
    other = copy.deepcopy(kept)
    other["runs"][0]["history"][-1]["step"] += 1
    program.draw(other, tmp_path / "other.svg")
    drawn = (tmp_path / "other.svg").read_text(encoding="utf-8")
    assert program.digest(other) in drawn
    assert program.digest(kept) not in drawn
    assert all(f"from {start}" in drawn for start in program.STARTS)


def test_both_starts_were_trained_alike(program: Any, kept: dict[str, Any]) -> None:
    runs = {(run["task"], run["start"]): run for run in kept["runs"]}
    for task in program.looked_at(kept["runs"]):
        towers, nothing = (runs[task, start] for start in program.STARTS)
        assert towers["parameters"] == nothing["parameters"]
        assert towers["items"] == nothing["items"] == kept["data"]["test"]
        differ = {key for key, value in towers["recipe"].items() if nothing["recipe"][key] != value}
        assert differ <= {"lr"}


def test_the_rates_are_those_that_the_short_runs_chose(program: Any, kept: dict[str, Any]) -> None:
    for run in kept["runs"]:
        tried = [t for t in kept["tries"] if (t["task"], t["start"]) == (run["task"], run["start"])]
        assert len(tried) > 1
        assert run["recipe"]["lr"] == min(tried, key=lambda t: t["last_loss"])["lr"]


def test_the_recipes_are_those_that_ran(program: Any, kept: dict[str, Any]) -> None:
    for run in kept["runs"]:
        file = ROOT / "train" / f"picturebook-{run['task']}.toml"
        asked = tomllib.loads(file.read_text(encoding="utf-8"))
        ran = {key: run["recipe"][key] for key in asked}
        assert {**ran, "lr": None} == {**asked, "lr": None}
