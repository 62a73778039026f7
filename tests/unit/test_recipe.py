"""Recipes: every mistake in a file or a flag is one line, and what is printed can be read back."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge import recipe
from blip_edge.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class _Cake:
    """A cake.

    Baked once.
    """

    eggs: int = 3
    """How many eggs."""
    sugar: float = 0.5
    """Kilograms of sugar."""
    name: str = "plain"
    """What it says on the cake."""
    layers: tuple[int, ...] = (1, 2)
    """Centimetres of each layer."""
    icing: Literal["none", "white"] = "none"
    candles: bool = False
    oven: int | None = None
    """Degrees."""

    def __post_init__(self) -> None:
        if self.eggs < 0:
            raise ValueError(f"eggs must not be negative, got {self.eggs}")
        if self.sugar < 0:
            raise UsageError("sugar must not be negative")


def load(*overrides: str, file: Path | None = None) -> _Cake:
    return recipe.load(_Cake, "train", file, overrides)


def test_defaults_then_file_then_overrides(tmp_path: Path) -> None:
    file = tmp_path / "cake.toml"
    file.write_text('eggs = 5\nname = "rich"\n')
    assert load() == _Cake()
    assert load(file=file) == _Cake(eggs=5, name="rich")
    assert load("eggs=6", file=file) == _Cake(eggs=6, name="rich")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("eggs=7", _Cake(eggs=7)),
        ("sugar=1e-4", _Cake(sugar=1e-4)),
        ("sugar=2", _Cake(sugar=2.0)),
        ("name=best", _Cake(name="best")),
        ("name=to my mother", _Cake(name="to my mother")),
        ('name="a = b "', _Cake(name="a = b ")),
        ("name=", _Cake(name="")),
        ("layers=[3, 4, 5]", _Cake(layers=(3, 4, 5))),
        ("candles=true", _Cake(candles=True)),
        (" eggs = 1 ", _Cake(eggs=1)),
        ("icing=white", _Cake(icing="white")),
    ],
)
def test_overrides_are_read_as_toml_or_else_as_words(override: str, expected: _Cake) -> None:
    assert load(override) == expected


@pytest.mark.parametrize("override", ["eggs", "=3", "  =3"])
def test_an_override_without_a_key_says_how_to_write_one(override: str) -> None:
    with pytest.raises(UsageError, match="--set takes key=value"):
        load(override)


def test_an_unknown_key_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(UsageError, match=r"unknown recipe key 'egs'.*did you mean 'eggs'\?"):
        load("egs=3")
    with pytest.raises(UsageError, match=r"'zzz'.*known keys: eggs, sugar"):
        load("zzz=3")


def test_an_unknown_key_in_a_file_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("shugar = 1.0\n")
    with pytest.raises(UsageError, match="did you mean 'sugar'"):
        load(file=tmp_path / "x.toml")


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("eggs=2.5", "key eggs"),
        ("eggs=many", "key eggs"),
        ("icing=blue", "'none' or 'white'"),
        ("layers=[1, true, 'x']", "key layers"),
        ("eggs=-1", "must not be negative, got -1"),
        ("sugar=-1", "sugar must not be negative"),
        ("sugar=inf", "key sugar: a finite number"),
        ("sugar='nan'", "key sugar: a finite number"),
    ],
)
def test_a_value_that_makes_no_sense_is_one_line(override: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        load(override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"eggs = ", b"eggs 3", b"\xff\xfe", b"eggs = 1\neggs = 2"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"broken\.toml is not valid TOML"):
        load(file=tmp_path / "broken.toml")


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no recipe file .*nowhere\.toml"):
        recipe.find("train", tmp_path / "nowhere.toml")
    with pytest.raises(UsageError, match="no train recipe named 'nowhere'"):
        recipe.find("train", "nowhere")


def test_a_misspelt_name_is_given_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "shapes-cake.toml").write_text("eggs = 9\n")
    monkeypatch.setattr(recipe, "_HOMES", (tmp_path,))
    assert recipe.names() == [("train", "shapes-cake")]
    assert recipe.load(_Cake, "train", "shapes-cake").eggs == 9
    with pytest.raises(UsageError, match=r"did you mean 'shapes-cake'\?"):
        recipe.find("train", "shape-cake")


def test_toml_of_a_recipe_carries_its_documentation() -> None:
    text = recipe.as_toml(_Cake)
    assert text.startswith("# A cake.\n#\n# Baked once.\n")
    assert "# Kilograms of sugar.\nsugar = 0.5\n" in text
    assert "# Degrees.\n# oven =\n" in text


@settings(deadline=None)
@given(
    st.builds(
        _Cake,
        eggs=st.integers(0, 2**62),
        sugar=st.floats(0, allow_nan=False),
        name=st.text(st.characters(codec="utf-8")),
        layers=st.lists(st.integers(-9, 9)).map(tuple),
        icing=st.sampled_from(["none", "white"]),
        candles=st.booleans(),
    )
)
def test_toml_read_back_is_the_same_recipe(cake: _Cake) -> None:
    values = tomllib.loads(recipe.as_toml(_Cake, cake))
    values["layers"] = tuple(values["layers"])
    assert _Cake(**values) == cake


def test_toml_of_the_real_recipes_reads_back() -> None:
    from blip_edge.distill.recipe import DistillRecipe, PruneRecipe
    from blip_edge.training.recipe import TrainRecipe

    for cls in (TrainRecipe, DistillRecipe, PruneRecipe):
        text = recipe.as_toml(cls)
        assert cls(**tomllib.loads(text)) == cls()
        for field in fields(cls):
            before = text.split(f"\n{field.name} = ")[0].rsplit("\n", 1)[-1]
            assert before.startswith("# "), f"{cls.__name__}.{field.name} is not explained"
