"""What an installed wheel brings: one name, its types, and the recipes."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    *("train", "train/capfilt", "distill", "distill/students", "quantize", "exporters"),
    *("benchmarks", "data"),
)

pytest.importorskip("hatchling")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the back end alone: no network, no isolation."""
    output = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(output)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (built,) = output.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_one_top_level_name_and_one_command_for_optimum(names: set[str]) -> None:
    outside = {name for name in names if not name.startswith("blip_edge/")}
    assert {name for name in outside if ".dist-info/" not in name} == {
        "optimum/commands/register/register_blip_edge.py"
    }


def test_every_recipe_travels_and_nothing_else_of_the_stage_folders(names: set[str]) -> None:
    recipes = {
        f"blip_edge/recipes/{folder}/{path.name}"
        for folder in (*FOLDERS, "exporters/devices")
        for path in (ROOT / folder).glob("*.toml")
    }
    assert recipes
    assert {name for name in names if name.startswith("blip_edge/recipes/")} == recipes


def test_the_whole_package_travels(names: set[str]) -> None:
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "blip_edge").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert "blip_edge/py.typed" in ours
    assert ours <= names


def test_the_command_and_its_recipes_work_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "blip-edge = blip_edge.cli:main" in archive.read(entry).decode()
    # -P keeps the working folder off the path, so that the checkout cannot help.
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import blip_edge.cli; "
        "sys.argv = ['blip-edge', 'recipe']; blip_edge.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    listed = {line.split()[1] for line in done.stdout.splitlines()}
    assert listed == {path.stem for folder in FOLDERS for path in (ROOT / folder).glob("*.toml")}
