"""The teacher's captions in the place of people's: so many of them, and the same ones each time."""

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
