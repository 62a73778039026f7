"""A tiny drawn world, made once, and a captioner of its words."""

from itertools import islice

import pytest

from blip_edge.data import Dataset
from blip_edge.data.shapes import make
from blip_edge.models import Model
from blip_edge.training.batches import Batch, CaptionBatches
from tests import tiny


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("distill") / "world", tiny.WORLD, seed=5)


@pytest.fixture
def captioner(world: Dataset) -> Model:
    return tiny.model([row.captions[0] for row in world.captions("train")])


@pytest.fixture
def batches(world: Dataset, captioner: Model) -> list[Batch]:
    made = CaptionBatches(
        world,
        world.captions("train"),
        captioner.tokenizer,
        captioner.preprocess,
        batch=6,
        seed=0,
        prompt=captioner.generation.prompt,
    )
    return list(islice(made, 2))
