"""A tiny drawn world, made once, and a network for its words."""

import pytest

from blip_edge.data import Dataset
from blip_edge.data.shapes import make
from blip_edge.models import Model
from tests import tiny


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("training") / "world", tiny.WORLD, seed=5)


@pytest.fixture
def captioner(world: Dataset) -> Model:
    return tiny.model([row.captions[0] for row in world.captions("train")])


@pytest.fixture
def pretrained(world: Dataset) -> Model:
    return tiny.model([row.captions[0] for row in world.captions("train")], "BlipForPreTraining")
