"""Two tiny drawn worlds, each made once: one of single things, one of several."""

from dataclasses import replace

import pytest

from blip_edge.data import Dataset
from blip_edge.data.shapes import ShapesRecipe, make

TINY = ShapesRecipe(
    train=24, val=10, test=12, unseen=8, web=40, image_size=32, dialogs=4, clips=3, frames=4
)


@pytest.fixture(scope="session")
def recipe() -> ShapesRecipe:
    return TINY


@pytest.fixture(scope="session")
def easy_recipe() -> ShapesRecipe:
    return replace(TINY, objects=1, textures=1, sizes=2, places=2, backgrounds=1)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory, recipe: ShapesRecipe) -> Dataset:
    return make(tmp_path_factory.mktemp("drawn") / "shapes", recipe, seed=7)


@pytest.fixture(scope="session")
def easy(tmp_path_factory: pytest.TempPathFactory, easy_recipe: ShapesRecipe) -> Dataset:
    return make(tmp_path_factory.mktemp("drawn") / "easy", easy_recipe, seed=7)
