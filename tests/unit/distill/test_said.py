"""The teacher's captions in the place of people's: so many of them, and the same ones each time."""

import shutil
from pathlib import Path

from blip_edge.data import Dataset
from blip_edge.distill.said import TaughtDataset
from blip_edge.models import Model
from blip_edge.training.engine import edge_model
from tests.unit.distill import sizes


def replaced(taught: Dataset, world: Dataset) -> list[int]:
    pairs = zip(taught.captions("train"), world.captions("train"), strict=True)
    return [number for number, (one, other) in enumerate(pairs) if one.captions != other.captions]


def test_about_half_is_the_teachers_and_the_rest_is_peoples(
    world: Dataset, captioner: Model
) -> None:
    taught = TaughtDataset.of(world, captioner, 0.5, seed=1)
    rows, own = taught.captions("train"), world.captions("train")
    numbers = replaced(taught, world)
    assert len(own) / 4 < len(numbers) < len(own) * 3 / 4
    assert [row.image for row in rows] == [row.image for row in own]
    said = edge_model(captioner)
    for number in numbers[:3]:
        assert rows[number].captions == (said.caption(world.image_path(own[number].image)).text,)


def test_the_seed_says_which(world: Dataset, captioner: Model) -> None:
    one, same, other = (TaughtDataset.of(world, captioner, 0.5, seed=seed) for seed in (1, 1, 2))
    assert one.captions("train") == same.captions("train")
    assert replaced(one, world) != replaced(other, world)


def test_none_and_all(world: Dataset, captioner: Model) -> None:
    assert TaughtDataset.of(world, captioner, 0.0).captions("train") == world.captions("train")
    everyone = TaughtDataset.of(world, captioner, 1.0)
    assert len(replaced(everyone, world)) == len(world.captions("train"))


def test_it_is_the_data_set_in_all_else(world: Dataset, captioner: Model) -> None:
    taught = TaughtDataset.of(world, captioner, 1.0)
    assert taught.captions("val") == world.captions("val")
    assert taught.digest() == world.digest()
    assert taught.questions("train") == world.questions("train")


def test_what_the_teacher_says_is_learned_from(world: Dataset, captioner: Model) -> None:
    taught = TaughtDataset.of(world, captioner, 1.0)
    row = taught.captions("train")[0]
    assert row.captions[0].strip()
    batch = sizes.batches(taught, captioner, "caption")[0]
    assert batch.attention_mask.sum(1).min() > len(captioner.tokenizer.prompt_ids("a "))


def test_a_picture_that_cannot_be_read_leaves_its_row_as_it_is(
    world: Dataset, captioner: Model, tmp_path: Path
) -> None:
    """How many may be bad is for who reads the rows to say; here one would have stopped the run."""
    shutil.copytree(world.folder, tmp_path / "data")
    data = Dataset.open(tmp_path / "data")
    own = data.captions("train")
    bad = own[0].image
    data.image_path(bad).write_bytes(b"no picture")
    taught = TaughtDataset.of(data, captioner, 1.0).captions("train")
    said = edge_model(captioner)
    for row, mine in zip(taught[:6], own, strict=False):
        if row.image == bad:
            assert row == mine
        else:
            assert row.captions == (said.caption(world.image_path(row.image)).text,)


def test_of_no_picture_nothing_is_said(world: Dataset, captioner: Model, tmp_path: Path) -> None:
    shutil.copytree(world.folder, tmp_path / "data")
    data = Dataset.open(tmp_path / "data")
    for row in data.captions("train"):
        data.image_path(row.image).write_bytes(b"no picture")
    taught = TaughtDataset.of(data, captioner, 1.0)
    assert taught.captions("train") == data.captions("train")
