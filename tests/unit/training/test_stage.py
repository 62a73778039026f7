"""`train`: a folder that opens and captions, the same bytes for a seed, and honest refusals."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blip_edge import load
from blip_edge.artifact import read_provenance, sha256_folder
from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import load_model
from blip_edge.models.vit import interpolate_positions
from blip_edge.training import TrainRecipe, train

TINY = TrainRecipe(
    steps=2,
    batch=4,
    image_size=24,
    patch_size=8,
    vision_layers=1,
    vision_width=16,
    vision_heads=2,
    text_layers=1,
    text_width=16,
    text_heads=2,
    embed_dim=8,
    vocab_size=80,
    max_positions=32,
    queue_size=8,
    prompt="a ",
    num_beams=2,
    max_length=10,
)


@pytest.fixture(scope="module")
def trained(world: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each task, from nothing."""
    torch.set_num_threads(1)  # as in each test: sums, and so the weights, depend on it
    folder = tmp_path_factory.mktemp("trained")
    return {
        task: train(world.folder, folder / task, replace(TINY, task=task), seed=1)
        for task in ("caption", "pretrain")
    }


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_trained_folder_captions(trained: dict[str, Path], world: Dataset) -> None:
    model = load_model(trained["caption"])
    assert model.config.architecture == "BlipForConditionalGeneration"
    assert model.generation.prompt == "a "
    picture = world.image_path(world.captions("test")[0].image)
    caption = load(trained["caption"]).caption(picture)
    assert caption.token_ids[0] == model.tokenizer.dec
    assert 5 <= len(caption.token_ids) <= 10


def test_sizes_are_the_recipes_and_words_are_the_datas(
    trained: dict[str, Path], world: Dataset
) -> None:
    model = load_model(trained["caption"])
    vision, text = model.config.vision_config, model.config.text_config
    assert (vision.image_size, vision.hidden_size, vision.heads) == (24, 16, (2,))
    assert (text.hidden_size, text.heads, text.max_position_embeddings) == (16, (2,), 32)
    assert text.vocab_size == model.tokenizer.vocab_size <= 80
    ids, _ = model.tokenizer.encode([row.captions[0] for row in world.captions("train")])
    assert model.tokenizer.unk not in ids


def test_the_same_seed_gives_the_same_bytes(
    trained: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    for task, folder in trained.items():
        recipe = replace(TINY, task=task)  # type: ignore[arg-type]
        again = train(world.folder, tmp_path / task, recipe, seed=1)
        assert weights(again) == weights(folder), task
    other = train(world.folder, tmp_path / "other", TINY, seed=2)
    assert weights(other) != weights(trained["caption"])


def test_provenance_says_where_a_model_comes_from(
    trained: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    made = read_provenance(train(world.folder, tmp_path / "x", TINY, init=trained["pretrain"]))
    assert (made.verb, made.recipe["steps"], made.recipe["seed"]) == ("train", 2, 0)
    assert made.parents == [
        {"path": str(trained["pretrain"]), "sha256": sha256_folder(trained["pretrain"])}
    ]
    assert made.data == {"name": "shapes", "sha256": world.digest(), "items": 120}
    assert [point["step"] for point in made.history] == [0.0, 1.0]
    assert read_provenance(trained["caption"]).parents == []


def test_a_captioner_starts_from_the_pretrained_weights(
    trained: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    barely = replace(TINY, steps=1, lr=1e-9, weight_decay=0.0, prompt="the ")
    folder = train(world.folder, tmp_path / "tuned", barely, init=trained["pretrain"])
    before, after = load_model(trained["pretrain"]), load_model(folder)
    old, new = before.blip.state_dict(), after.blip.state_dict()
    assert set(new) < set(old), "what captioning does not need is left behind"
    for name, tensor in new.items():
        torch.testing.assert_close(tensor, old[name], rtol=0, atol=1e-6)
    assert after.tokenizer.dec == before.tokenizer.dec
    assert after.generation.prompt == "the "


def test_a_captioner_cannot_be_pretrained_further(
    trained: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    """Its encoder's missing weights would be random, and nobody would be told."""
    recipe = replace(TINY, task="pretrain")
    with pytest.raises(ArtifactError, match=r"without itm_head, .*text_encoder.*pretrain needs"):
        train(world.folder, tmp_path / "x", recipe, init=trained["caption"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image_size", [0, 24, 32])
def test_a_model_is_tuned_at_the_recipes_picture_size(
    image_size: int, trained: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    """BLIP pre-trains at 224 pixels and tunes at 384; 0 is what the model has."""
    barely = replace(TINY, steps=1, lr=1e-9, weight_decay=0.0, image_size=image_size)
    folder = train(world.folder, tmp_path / "tuned", barely, init=trained["pretrain"])
    model, size = load_model(folder), image_size or 24
    assert model.preprocess.size == model.config.vision_config.image_size == size
    old = load_model(trained["pretrain"]).blip.vision_model.embeddings.position_embedding
    new = model.blip.vision_model.embeddings.position_embedding
    want = interpolate_positions(old.detach(), (size // 8) ** 2 + 1)
    torch.testing.assert_close(new, want, rtol=0, atol=1e-6)


def test_a_picture_size_that_does_not_split_into_patches(
    trained: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="the nearest are 24 and 32"):
        train(world.folder, tmp_path / "x", replace(TINY, image_size=30), init=trained["pretrain"])
    assert list(tmp_path.iterdir()) == []


def test_a_model_from_nothing_sees_384_pixels(world: Dataset, tmp_path: Path) -> None:
    recipe = replace(TINY, image_size=0, patch_size=64, batch=1, steps=1)
    model = load_model(train(world.folder, tmp_path / "x", recipe))
    assert model.preprocess.size == model.config.vision_config.image_size == 384


def test_training_leaves_the_model_it_started_from_alone(
    trained: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    """Its weights are read where they lie in their file."""
    before = sha256_folder(trained["pretrain"])
    train(world.folder, tmp_path / "x", replace(TINY, lr=0.1), init=trained["pretrain"])
    assert sha256_folder(trained["pretrain"]) == before


def test_what_is_no_data_set_leaves_nothing_behind(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="not a data set"):
        train(trained["caption"], tmp_path / "x", TINY)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_refused_before_anything_is_read(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="already exists"):
        train(tmp_path / "no-data", trained["caption"], TINY)


def test_damaged_pictures_stop_a_run_beyond_what_is_allowed(world: Dataset, tmp_path: Path) -> None:
    shutil.copytree(world.folder, tmp_path / "data")
    for number in range(4):
        (tmp_path / "data" / "images" / "train" / f"{number:06}.png").write_bytes(b"")
    rows = json.loads((tmp_path / "data" / "caption_train.json").read_text())
    (tmp_path / "data" / "caption_train.json").write_text(json.dumps(rows[: 5 * 6]))
    recipe = replace(TINY, steps=0, epochs=1.0)
    with pytest.raises(ArtifactError, match="of 6 pictures cannot be read"):
        train(tmp_path / "data", tmp_path / "x", recipe)
    assert not (tmp_path / "x").exists()
    train(tmp_path / "data", tmp_path / "x", replace(recipe, max_bad=0.7))


def test_captions_longer_than_the_model_can_hold_are_cut(world: Dataset, tmp_path: Path) -> None:
    short = replace(TINY, max_positions=6, min_length=2, max_length=6)
    folder = train(world.folder, tmp_path / "x", short)
    assert load_model(folder).config.text_config.max_position_embeddings == 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 25},
        {"vision_heads": 3},
        {"text_heads": 0},
        {"min_length": 11},
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    wrong: dict[str, Any], world: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        train(world.folder, tmp_path / "x", replace(TINY, **wrong))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *({"steps": -1}, {"epochs": 0.0}, {"batch": 0}, {"lr": 0.0}, {"lr": math.nan}, {"clip": 0}),
        *({"warmup": -1}, {"weight_decay": -1e-3}, {"max_bad": 1.5}, {"label_smoothing": 2.0}),
        *({"momentum": -0.1}, {"alpha": math.nan}, {"dropout": 7}, {"queue_size": -1}),
        *({"alpha_warmup": -1}, {"max_words": 0}, {"image_size": -1}, {"vocab_size": 0}),
        *({"vision_width": 0}, {"text_width": 0}, {"embed_dim": 0}, {"max_positions": -1}),
    ],
)
def test_recipes_of_nonsense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TrainRecipe(**wrong)
