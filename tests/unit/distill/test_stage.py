"""`distill` and `prune` in every task: smaller folders that are measured, resumed, and refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blip_edge import load
from blip_edge.artifact import read_provenance, sha256_folder
from blip_edge.data import Dataset
from blip_edge.distill import DistillRecipe, PruneRecipe, distill, prune
from blip_edge.distill.importance import Importance
from blip_edge.distill.surgery import LayerKeep, cut, everything
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation import EvalSettings, evaluate
from blip_edge.models import count_parameters, load_model, save_model
from blip_edge.models.config import ARCHITECTURES
from blip_edge.training.recipe import Task
from tests import tiny
from tests.unit.distill import sizes
from tests.unit.distill.stops import Stops

SHARED: dict[str, Any] = {"steps": 2, "batch": 4, "calibration": 2, "attention_weight": 0.1}
STUDENT = DistillRecipe(
    **SHARED,
    vision_layers=1,
    vision_width=24,
    vision_neurons=24,
    text_layers=1,
    text_width=12,
    text_heads=2,
    text_neurons=16,
    embed_dim=5,
)
PRUNED = PruneRecipe(**SHARED, keep=0.6, rounds=2)
MEASURED: dict[Task, str] = {
    "caption": "CIDEr",
    "retrieval": "r_mean",
    "vqa": "vqa_accuracy",
    "nlvr2": "accuracy",
}
OWN = {
    "caption": {"lm"},
    "retrieval": {"itc", "itm", "affinity"},
    "vqa": {"lm"},
    "pretrain": {"itc", "itm", "lm", "affinity"},
    "nlvr2": {"cls"},
}


@pytest.fixture(scope="module")
def teachers(world: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each task."""
    root = tmp_path_factory.mktemp("teachers")
    for task in sizes.TASKS:
        (root / task).mkdir()
        save_model(root / task, sizes.model(world, task))
    return {task: root / task for task in sizes.TASKS}


def parameters(folder: Path) -> int:
    return count_parameters(load_model(folder).blip)


def captions(folder: Path, world: Dataset) -> None:
    caption = load(folder).caption(world.image_path(world.captions("test")[0].image))
    assert len(caption.token_ids) >= 3


def measured(folder: Path, world: Dataset, task: Task) -> None:
    if task in MEASURED:
        how = EvalSettings(limit=3)
        found = evaluate(folder, world.folder, task=task, split="test", how=how)
        assert found.metrics[MEASURED[task]] >= 0


@pytest.mark.parametrize("task", sizes.TASKS)
def test_a_student_is_smaller_and_does_what_its_teacher_does(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, task: Task
) -> None:
    teacher = teachers[task]
    before = sha256_folder(teacher)
    folder = distill(teacher, world.folder, tmp_path / "student", STUDENT)
    assert sha256_folder(teacher) == before, "a teacher is left as it was"
    config = load_model(folder).config
    vision, text = config.vision_config, config.text_config
    assert config.architecture == ARCHITECTURES[task]
    assert (vision.hidden_size, vision.heads, vision.ffn_widths) == (24, (3,), (24,))
    assert (text.hidden_size, text.heads, text.cross_heads) == (12, (2,), (2,))
    assert text.ffn_widths == (16,)
    assert parameters(folder) < parameters(teacher)
    measured(folder, world, task)
    made = read_provenance(folder)
    assert made.verb == "distill"
    assert made.parents == [{"path": str(teacher), "sha256": before}]
    assert made.data is not None and made.data["sha256"] == world.digest()
    shared = {"step", "logit", "hidden", "attention", "contrastive"}
    assert set(made.history[0]) == shared | OWN[task]
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


@pytest.mark.parametrize("task", sizes.TASKS)
def test_a_pruned_model_is_smaller_and_does_what_it_did(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, task: Task
) -> None:
    whole = teachers[task]
    before = sha256_folder(whole)
    folder = prune(whole, world.folder, tmp_path / "pruned", PRUNED)
    assert sha256_folder(whole) == before
    assert 0.4 * parameters(whole) < parameters(folder) <= 0.6 * parameters(whole)
    assert load_model(folder).config.architecture == ARCHITECTURES[task]
    measured(folder, world, task)
    assert read_provenance(folder).verb == "prune"


@pytest.mark.parametrize("widths", [True, False])
@pytest.mark.parametrize("task", ["caption", "retrieval"])
def test_an_even_cut_opens_in_transformers(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, task: Task, widths: bool
) -> None:
    recipe = replace(PRUNED, even=True, widths=widths, keep=0.8)
    folder = prune(teachers[task], world.folder, tmp_path / "x", recipe)
    config = load_model(folder).config
    assert config.model_type == "blip"
    assert parameters(folder) <= 0.8 * parameters(teachers[task])
    assert (config.vision_config.hidden_size < 32) <= widths


def test_tokens_are_merged_and_nothing_else_is_lost(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    recipe = replace(PRUNED, keep=1.0, tokens=0.5, attention_weight=0.0)
    folder = prune(teachers["caption"], world.folder, tmp_path / "x", recipe)
    config = load_model(folder).config
    assert config.vision_config.tokens_kept == (8, 5)
    assert parameters(folder) == parameters(teachers["caption"])
    captions(folder, world)
    recipe = replace(recipe, keep=0.6, per="macs")
    both = prune(teachers["caption"], world.folder, tmp_path / "y", recipe)
    assert load_model(both).config.vision_config.num_output_tokens < 10
    assert parameters(both) < parameters(folder)
    captions(both, world)


def test_attention_to_merged_tokens_is_refused(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"attention_weight.*set it to 0"):
        prune(teachers["caption"], world.folder, tmp_path / "x", replace(PRUNED, tokens=0.5))
    assert list(tmp_path.iterdir()) == []


def test_a_pruned_model_can_be_pruned_and_distilled_again(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    """Its layers differ in size, and its heads no longer fill its width."""
    recipe = replace(PRUNED, keep=0.8)
    once = prune(teachers["caption"], world.folder, tmp_path / "once", recipe)
    twice = prune(once, world.folder, tmp_path / "twice", recipe)
    assert parameters(twice) <= 0.8 * parameters(once)
    captions(twice, world)
    small = distill(twice, world.folder, tmp_path / "small", DistillRecipe(**SHARED))
    assert parameters(small) == parameters(twice)
    captions(small, world)


@pytest.mark.parametrize(
    ("importance", "layers"), [("fisher", "important"), ("magnitude", "important")]
)
def test_units_and_layers_can_be_chosen_otherwise(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, importance: Any, layers: Any
) -> None:
    recipe = replace(STUDENT, importance=importance, layers=layers, steps=1)
    folder = distill(teachers["nlvr2"], world.folder, tmp_path / "x", recipe)
    assert load_model(folder).config.text_config.num_hidden_layers == 1


def test_the_layers_that_matter_most_keep_their_own_sizes(
    world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a pruned teacher they differ: the sizes of other layers would not fit."""
    blip = tiny.lively(sizes.model(world, "caption").config)
    keep = everything(blip)
    small = LayerKeep([0, 1], [0], list(range(16)))
    keep = replace(keep, text={0: small, 1: keep.text[1]}, vision={**keep.vision, 1: small})
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    save_model(teacher, sizes.model(world, "caption").with_blip(cut(blip, keep)))
    monkeypatch.setattr(Importance, "layer", lambda self, tower, number: -number)  # the first
    recipe = DistillRecipe(**SHARED, layers="important", vision_layers=1, text_layers=1)
    config = load_model(distill(teacher, world.folder, tmp_path / "x", recipe)).config
    assert config.text_config.heads == (2,) and config.text_config.cross_heads == (1,)
    assert config.text_config.ffn_widths == (16,)
    assert config.vision_config.heads == (len(keep.vision[0].heads),)
    assert config.vision_config.ffn_widths == (len(keep.vision[0].neurons),)


def test_a_student_of_smaller_pictures_and_patches(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    recipe = replace(STUDENT, image_size=16, patch_size=8, attention_weight=0.0)
    folder = distill(teachers["caption"], world.folder, tmp_path / "x", recipe)
    model = load_model(folder)
    assert model.preprocess.size == model.config.vision_config.image_size == 16
    captions(folder, world)


def test_captions_of_the_teacher_are_of_captions(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    recipe = replace(STUDENT, said=0.5)
    said = distill(teachers["caption"], world.folder, tmp_path / "said", recipe)
    plain = distill(teachers["caption"], world.folder, tmp_path / "plain", STUDENT)
    losses = [read_provenance(folder).history[0]["lm"] for folder in (said, plain)]
    assert losses[0] != losses[1]
    with pytest.raises(UsageError, match="said is of captions"):
        distill(teachers["vqa"], world.folder, tmp_path / "x", recipe)


@pytest.mark.parametrize("verb", ["distill", "prune"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, verb: str
) -> None:
    shared: dict[str, Any] = {"steps": 6, "save_every": 2, "memory": 5, "lr": 1e-3}
    shared |= {"min_crop": 0.5, "flip": 0.5, "augment_ops": 2, "said": 0.5}
    run: Any = distill if verb == "distill" else prune
    how: Any = replace(STUDENT if verb == "distill" else PRUNED, **shared)
    if verb == "prune":
        how = replace(how, rounds_share=0.25, attention_weight=0.0, tokens=0.8)

    def go(name: str, recipe: Any = how, **more: Any) -> Path:
        made: Path = run(teachers["caption"], world.folder, tmp_path / name, recipe, seed=3, **more)
        return made

    whole, torn = go("whole"), tmp_path / "torn"
    with pytest.raises(KeyboardInterrupt):
        go("torn", progress=Stops(f"{verb} c", 3))
    assert not torn.exists()
    with pytest.raises(ArtifactError, match="--resume"):
        go("torn")
    with pytest.raises(UsageError, match=r"lr was.*hidden_weight was|hidden_weight was.*lr was"):
        go("torn", replace(how, lr=0.5, hidden_weight=0.7), resume=True)
    go("torn", resume=True)
    name = "model.safetensors"
    assert (torn / name).read_bytes() == (whole / name).read_bytes()
    assert not (tmp_path / "torn.checkpoints").exists()
    # Finished: nothing is done again, unless it is another recipe that is asked for.
    stamp = (torn / name).stat().st_mtime_ns
    go("torn", resume=True)
    assert (torn / name).stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match="memory differ"):
        go("torn", replace(how, memory=6), resume=True)


def test_another_teacher_is_another_run(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    how = replace(STUDENT, steps=3, save_every=1)
    out = tmp_path / "x"
    with pytest.raises(KeyboardInterrupt):
        distill(teachers["caption"], world.folder, out, how, progress=Stops("distill c", 2))
    (tmp_path / "other").mkdir()
    other = sizes.model(world, "caption")
    other.blip.vision_model.post_layernorm.bias.data.add_(1)
    save_model(tmp_path / "other", other)
    with pytest.raises(UsageError, match="parents was"):
        distill(tmp_path / "other", world.folder, out, how, resume=True)


@pytest.mark.parametrize("verb", ["distill", "prune"])
def test_the_same_seed_gives_the_same_bytes(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, verb: str
) -> None:
    run: Any = distill if verb == "distill" else prune
    recipe: Any = STUDENT if verb == "distill" else PRUNED
    folders = [
        run(teachers["nlvr2"], world.folder, tmp_path / str(n), recipe, seed=3) for n in (0, 1)
    ]
    first, second = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == second


def test_a_vocabulary_is_cut_to_the_words_of_the_data(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    folder = distill(
        teachers["caption"], world.folder, tmp_path / "x", STUDENT, vocab_from=world.folder
    )
    model, whole = load_model(folder), load_model(teachers["caption"])
    assert model.tokenizer.vocab_size < whole.tokenizer.vocab_size
    assert model.config.text_config.vocab_size == model.tokenizer.vocab_size
    parents = [parent["path"] for parent in read_provenance(folder).parents]
    assert parents == [str(teachers["caption"]), str(world.folder)]
    captions(folder, world)


def test_a_student_larger_than_its_teacher_is_refused(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="text_layers = 3, but the teacher has 2"):
        distill(teachers["vqa"], world.folder, tmp_path / "x", replace(STUDENT, text_layers=3))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_so_small_is_refused(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="raise keep"):
        prune(teachers["caption"], world.folder, tmp_path / "x", replace(PRUNED, keep=0.01))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("even", [False, True])
def test_what_cannot_be_so_small_is_refused_before_anything_is_trained(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, even: bool
) -> None:
    """The last of four cuts would be impossible, after hours on a large model."""
    trained: list[str] = []

    class Listener(Stops):
        def track(self, items: Any, description: str, *, total: int | None = None) -> Any:
            trained.extend([description] if description.startswith("prune") else [])
            return items

    how = replace(PRUNED, keep=0.01, rounds=4, steps=8, even=even)
    with pytest.raises(UsageError, match="raise keep"):
        prune(teachers["caption"], world.folder, tmp_path / "x", how, progress=Listener("prune", 0))
    assert trained == []


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_training_between_the_cuts_makes_no_run_longer(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, share: float
) -> None:
    steps: dict[str, int] = {}

    class Listener(Stops):
        def track(self, items: Any, description: str, *, total: int | None = None) -> Any:
            if description.startswith("prune"):
                steps[description] = total or 0
            return items

    how = replace(PRUNED, steps=6, rounds_share=share)
    listener = Listener("prune", 0)
    prune(teachers["caption"], world.folder, tmp_path / "x", how, progress=listener)
    assert sum(steps.values()) == 6
    assert steps["prune caption"] >= 1
