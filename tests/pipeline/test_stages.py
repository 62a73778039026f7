"""The training stages in order on a tiny drawn world: each output is the next one's input."""

from dataclasses import replace
from pathlib import Path

import pytest

import blip_edge
from blip_edge.artifact import kind, read_provenance, sha256_folder
from blip_edge.data import Dataset
from blip_edge.data.shapes import make
from blip_edge.distill import DistillRecipe, PruneRecipe, distill, prune
from blip_edge.models import count_parameters, load_model
from blip_edge.training import TrainRecipe, train
from tests import tiny

PRETRAIN = TrainRecipe(
    task="pretrain",
    steps=3,
    batch=4,
    image_size=24,
    patch_size=8,
    vision_layers=2,
    vision_width=32,
    vision_heads=4,
    text_layers=2,
    text_width=16,
    text_heads=2,
    embed_dim=8,
    vocab_size=80,
    max_positions=32,
    queue_size=8,
    num_beams=2,
    max_length=12,
)
STAGES = ("pretrained", "captioner", "student", "pruned")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("stages") / "world", tiny.WORLD)


@pytest.fixture(scope="module")
def run(world: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every stage's folder."""
    data, root = world.folder, tmp_path_factory.mktemp("run")
    paths = {name: root / name for name in STAGES}
    train(data, paths["pretrained"], PRETRAIN)
    captioning = replace(PRETRAIN, task="caption")
    train(data, paths["captioner"], captioning, init=paths["pretrained"])
    small = DistillRecipe(steps=3, batch=4, calibration=2, vision_layers=1, text_layers=1)
    distill(paths["captioner"], data, paths["student"], small)
    pruning = PruneRecipe(steps=2, batch=4, calibration=2, keep=0.6)
    prune(paths["student"], data, paths["pruned"], pruning)
    return paths


def test_every_stage_leaves_a_model_and_nothing_beside_it(run: dict[str, Path]) -> None:
    assert {path.name for path in run["pruned"].parent.iterdir()} == set(STAGES)
    assert [kind(path) for path in run.values()] == ["model"] * 4


def test_the_chain_of_provenance_names_every_parent(run: dict[str, Path], world: Dataset) -> None:
    chain = [read_provenance(path) for path in run.values()]
    assert [made.verb for made in chain] == ["train", "train", "distill", "prune"]
    assert chain[0].parents == []
    for parent, made in zip(run.values(), chain[1:], strict=False):
        assert made.parents == [{"path": str(parent), "sha256": sha256_folder(parent)}]
    for made in chain:
        assert made.data is not None and made.data["sha256"] == world.digest()
        assert made.version == blip_edge.__version__
        assert made.history[-1]["step"] == made.recipe["steps"] - 1


def test_models_get_smaller_from_stage_to_stage(run: dict[str, Path]) -> None:
    sizes = [count_parameters(load_model(path).blip) for path in run.values()]
    assert sizes == sorted(set(sizes), reverse=True)


@pytest.mark.parametrize("name", STAGES[1:])
def test_every_captioner_captions(name: str, run: dict[str, Path], world: Dataset) -> None:
    model = blip_edge.load(run[name])
    rows = world.captions("test")
    caption = model.caption(world.image_path(rows[0].image))
    prompt = model.tokenizer.prompt_ids(PRETRAIN.prompt)
    assert list(caption.token_ids[: len(prompt)]) == prompt
    assert 5 <= len(caption.token_ids) <= 12
    assert caption.score < 0
    together = model.caption([world.image_path(row.image) for row in rows])
    assert together[0].token_ids == caption.token_ids


def test_words_pixels_and_search_are_handed_on(run: dict[str, Path]) -> None:
    first, *others = (load_model(path) for path in run.values())
    for model in others:
        assert model.tokenizer.vocab_size == first.tokenizer.vocab_size
        assert model.preprocess == first.preprocess
        assert model.generation == first.generation
