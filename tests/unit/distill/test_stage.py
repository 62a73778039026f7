"""`distill` and `prune`: smaller folders that open and caption, and honest refusals."""

from dataclasses import replace
from pathlib import Path

import pytest

from blip_edge import load
from blip_edge.artifact import read_provenance, sha256_folder
from blip_edge.data import Dataset
from blip_edge.distill import DistillRecipe, PruneRecipe, distill, prune
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import count_parameters, load_model, save_model
from tests import tiny

STUDENT = DistillRecipe(
    steps=2,
    batch=4,
    calibration=2,
    vision_layers=1,
    text_layers=1,
    keep_heads=0.5,
    keep_neurons=0.5,
)
PRUNED = PruneRecipe(steps=2, batch=4, calibration=2, keep=0.5)


@pytest.fixture(scope="module")
def teacher(world: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "model"
    folder.mkdir()
    save_model(folder, tiny.model([row.captions[0] for row in world.captions("train")]))
    return folder


def parameters(folder: Path) -> int:
    return count_parameters(load_model(folder).blip)


def captions(folder: Path, world: Dataset) -> None:
    caption = load(folder).caption(world.image_path(world.captions("test")[0].image))
    assert len(caption.token_ids) >= 3


def test_a_student_is_smaller_and_captions(teacher: Path, world: Dataset, tmp_path: Path) -> None:
    folder = distill(teacher, world.folder, tmp_path / "student", STUDENT)
    config = load_model(folder).config
    vision, text = config.vision_config, config.text_config
    assert (vision.heads, vision.ffn_widths) == ((2,), (24,))
    assert (text.heads, text.cross_heads, text.ffn_widths) == ((2,), (2,), (16,))
    assert parameters(folder) < parameters(teacher)
    captions(folder, world)
    made = read_provenance(folder)
    assert made.verb == "distill"
    assert made.parents == [{"path": str(teacher), "sha256": sha256_folder(teacher)}]
    assert set(made.history[0]) == {"step", "lm", "logit", "hidden", "contrastive"}


@pytest.mark.parametrize("even", [True, False])
def test_a_pruned_model_is_smaller_and_captions(
    even: bool, teacher: Path, world: Dataset, tmp_path: Path
) -> None:
    folder = prune(teacher, world.folder, tmp_path / "x", replace(PRUNED, even=even))
    config = load_model(folder).config
    for tower in (config.vision_config, config.text_config):
        assert sum(tower.heads) == 4, "half of eight heads"
        assert min(tower.heads) >= 1
    if even:
        assert config.text_config.cross_heads == config.text_config.heads == (2, 2)
    assert parameters(folder) < parameters(teacher)
    captions(folder, world)
    assert read_provenance(folder).verb == "prune"


def test_a_pruned_model_can_be_pruned_again(teacher: Path, world: Dataset, tmp_path: Path) -> None:
    """Its layers differ in size, and its heads no longer fill its width."""
    once = prune(teacher, world.folder, tmp_path / "once", PRUNED)
    twice = prune(once, world.folder, tmp_path / "twice", PRUNED)
    assert parameters(twice) < parameters(once)
    captions(twice, world)


def test_the_same_seed_gives_the_same_bytes(teacher: Path, world: Dataset, tmp_path: Path) -> None:
    for verb in ("distill", "prune"):
        folders = [
            distill(teacher, world.folder, tmp_path / f"{verb}{run}", STUDENT, seed=3)
            if verb == "distill"
            else prune(teacher, world.folder, tmp_path / f"{verb}{run}", PRUNED, seed=3)
            for run in range(2)
        ]
        first, second = ((folder / "model.safetensors").read_bytes() for folder in folders)
        assert first == second, verb


def test_the_teacher_is_left_as_it_was(teacher: Path, world: Dataset, tmp_path: Path) -> None:
    before = sha256_folder(teacher)
    distill(teacher, world.folder, tmp_path / "a", STUDENT)
    prune(teacher, world.folder, tmp_path / "b", PRUNED)
    assert sha256_folder(teacher) == before


def test_a_student_larger_than_its_teacher_is_refused(
    teacher: Path, world: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="text_layers = 3, but the teacher has 2 layers"):
        distill(teacher, world.folder, tmp_path / "x", replace(STUDENT, text_layers=3))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_caption_is_refused(
    teacher: Path, world: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "both").mkdir()
    words = [row.captions[0] for row in world.captions("train")]
    save_model(tmp_path / "both", tiny.model(words, "BlipForPreTraining"))
    with pytest.raises(ArtifactError, match="prune works on captioners so far, not on BlipForPre"):
        prune(tmp_path / "both", world.folder, tmp_path / "x", PRUNED)
    with pytest.raises(ArtifactError, match="train --task caption --init"):
        distill(tmp_path / "both", world.folder, tmp_path / "x", STUDENT)
    assert not (tmp_path / "x").exists()
