"""The repository looks as it says it does."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("train", "distill", "quantize", "exporters")
MAX_LINES = 400


def sources() -> list[Path]:
    found = [ROOT / "cli.py"]
    for folder in ("blip_edge", "tests", "benchmarks", "examples"):
        found += (ROOT / folder).rglob("*.py")
    return found


@pytest.mark.parametrize(
    "path",
    [
        *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"),
        *("Makefile", "pyproject.toml", "constraints.txt", "cli.py", ".ci/run"),
        *(f"{stage}/README.md" for stage in STAGES),
        *("benchmarks/README.md", "blip_edge/py.typed"),
        *("tests/unit", "tests/parity", "tests/export", "tests/pipeline", "tests/cli"),
    ],
)
def test_what_the_tree_promises_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("stage", STAGES)
def test_stage_folders_hold_recipes_and_records_not_code(stage: str) -> None:
    assert list((ROOT / stage).rglob("*.py")) == []
    assert (ROOT / "blip_edge" / stage.replace("train", "training")).is_dir()


def test_no_file_is_too_long() -> None:
    long = {path.name: len(path.read_text().splitlines()) for path in sources()}
    assert {name: lines for name, lines in long.items() if lines > MAX_LINES} == {}


def test_no_drawer_for_odds_and_ends() -> None:
    odd = {"utils.py", "common.py", "base.py", "helpers.py", "misc.py"}
    assert [path for path in sources() if path.name in odd] == []


def test_a_checkout_runs_uninstalled(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "cli.py", "--version"],
        capture_output=True,
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout.strip()
    assert len((ROOT / "cli.py").read_text().splitlines()) <= 8


def test_imports_run_one_way() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
