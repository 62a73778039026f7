"""Every built-in recipe is one that its verb can read."""

from dataclasses import is_dataclass
from pathlib import Path

import pytest

from blip_edge.cli.recipes import VERBS, built_in, recipe_class, stage_of
from blip_edge.recipe import as_toml, load

ROOT = Path(__file__).parents[2]
FOLDERS = ("train", "distill", "quantize", "exporters", "benchmarks", "data")


@pytest.mark.parametrize(("verb", "name"), built_in(), ids=lambda text: str(text))
def test_each_recipe_loads_into_its_class(verb: str, name: str) -> None:
    cls = recipe_class(verb)
    recipe = load(cls, stage_of(verb), name)
    assert isinstance(recipe, cls)
    if verb not in ("bench", "export"):  # these see no data
        assert "-" in name, "recipes are named <data>-<what>"


@pytest.mark.parametrize("verb", VERBS)
def test_printed_recipes_read_back_the_same(verb: str, tmp_path: Path) -> None:
    cls = recipe_class(verb)
    assert is_dataclass(cls)
    names = [name for of, name in built_in() if of == verb]
    for number, recipe in enumerate([load(cls, stage_of(verb), name) for name in [None, *names]]):
        path = tmp_path / f"{number}.toml"
        path.write_text(as_toml(cls, recipe))
        assert load(cls, stage_of(verb), path) == recipe


def test_every_recipe_file_is_found() -> None:
    files = {path.stem for folder in FOLDERS for path in (ROOT / folder).glob("*.toml")}
    assert files == {name for _, name in built_in()}
    assert files
