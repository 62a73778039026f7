"""A tiny drawn world, made once, and a captioner of its words."""

from dataclasses import replace

import pytest

from blip_edge.data import Dataset
from blip_edge.data.shapes import make
from blip_edge.models import Model
from blip_edge.training.batches import Batch
from tests import tiny
from tests.unit.distill import sizes


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    recipe = replace(tiny.WORLD, questions=2, sentences=2)
    return make(tmp_path_factory.mktemp("distill") / "world", recipe, seed=5)


@pytest.fixture
def captioner(world: Dataset) -> Model:
    return tiny.model([row.captions[0] for row in world.captions("train")])


@pytest.fixture
def batches(world: Dataset, captioner: Model) -> list[Batch]:
    return sizes.batches(world, captioner, "caption", 2)
