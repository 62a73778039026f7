"""`distill --store`: the online teacher's students without asking it twice, whole or refused."""

import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from blip_edge.artifact import read_provenance
from blip_edge.data import Dataset
from blip_edge.distill import (
    DistillRecipe,
    PruneRecipe,
    distill,
    objective,
    prune,
    replay,
    storing,
)
from blip_edge.distill.recipe import Imitation
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import save_model
from blip_edge.models.vit import VisionModel
from blip_edge.training.recipe import Task
from tests.unit.distill import sizes
from tests.unit.distill.stops import Stops

STUDENT = DistillRecipe(
    steps=6,
    batch=30,
    calibration=2,
    lr=3e-3,
    memory=7,
    hidden_weight=0.0,
    min_crop=0.5,
    flip=0.5,
    augment_ops=2,
    swap=0.5,
    vision_layers=1,
    vision_width=24,
    vision_neurons=24,
    text_layers=1,
    views=1,
    top=0,
)
BATCHES = 4
"""Of an epoch of captions; other tasks have fewer."""
# Half precision, and what a few steps make of it.
CLOSE = 2e-3


@pytest.fixture(scope="module")
def teachers(world: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each task."""
    root = tmp_path_factory.mktemp("teachers")
    for task in sizes.TASKS:
        (root / task).mkdir()
        save_model(root / task, sizes.model(world, task))
    return {task: root / task for task in sizes.TASKS}


def curve(folder: Path) -> list[dict[str, float]]:
    return read_provenance(folder).history


def files(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir()}


class Counting:
    """How often pictures went through a model of the teacher's width."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes, forward = 0, VisionModel.forward

        def counted(tower: Any, *args: Any, **more: Any) -> Any:
            self.passes += tower.config.hidden_size == 32
            return forward(tower, *args, **more)

        monkeypatch.setattr(VisionModel, "forward", counted)


@pytest.mark.parametrize("task", sizes.TASKS)
def test_a_store_teaches_what_its_teacher_does(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, task: Task
) -> None:
    def go(name: str, recipe: DistillRecipe = STUDENT, **more: Any) -> list[dict[str, float]]:
        return curve(distill(teachers[task], world.folder, tmp_path / name, recipe, **more))

    online, stored = go("online"), go("stored", store=tmp_path / "store")
    assert len(online) == len(stored) == STUDENT.steps > BATCHES, "it goes into a second epoch"
    for one, other in zip(online, stored, strict=True):
        assert other == pytest.approx(one, rel=CLOSE, abs=CLOSE)
    # The largest few logits, and all else as one: less is asked of the student, not more.
    few = go("few", replace(STUDENT, top=8, steps=1), store=tmp_path / "few-store")
    assert 0 < few[0]["logit"] <= online[0]["logit"] + CLOSE
    for name in online[0].keys() - {"logit"}:
        assert few[0][name] == pytest.approx(online[0][name], rel=CLOSE, abs=CLOSE)


@pytest.mark.parametrize("task", ["caption", "retrieval"])
def test_a_second_student_asks_nothing(
    teachers: dict[str, Path],
    world: Dataset,
    tmp_path: Path,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = tmp_path / "store"
    recipe = replace(STUDENT, said=0.5 if task == "caption" else 0.0)
    first = distill(teachers[task], world.folder, tmp_path / "first", recipe, store=store)
    kept = files(store)
    counting = Counting(monkeypatch)
    again = distill(teachers[task], world.folder, tmp_path / "again", recipe, store=store)
    name = "model.safetensors"
    assert (again / name).read_bytes() == (first / name).read_bytes()
    other = replace(recipe, text_width=12, text_neurons=16, text_heads=2, logit_weight=0.2, lr=1e-3)
    distill(teachers[task], world.folder, tmp_path / "other", other, store=store)
    assert counting.passes == 0
    assert files(store) == kept


def test_later_epochs_ask_nothing_and_a_longer_run_the_rest(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "SHARD_BYTES", 1)  # a batch a shard
    store = tmp_path / "store"
    recipe = replace(STUDENT, importance="magnitude", views=2, steps=3)
    teacher = teachers["caption"]
    distill(teacher, world.folder, tmp_path / "short", recipe, store=store)
    shards = sorted(path.name for path in store.glob("shard-*"))
    assert [name[:13] for name in shards] == ["shard-0-00000", "shard-0-00001", "shard-0-00002"]
    counting = Counting(monkeypatch)
    long = replace(recipe, steps=5 * BATCHES)
    distill(teacher, world.folder, tmp_path / "long", long, store=store)
    assert counting.passes == 2 * BATCHES - 3
    assert len(list(store.glob("shard-*"))) == 2 * BATCHES


def test_a_killed_run_goes_on_at_the_first_shard_that_is_missing(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "SHARD_BYTES", 20_000)
    teacher, recipe = teachers["pretrain"], replace(STUDENT, views=2)
    distill(teacher, world.folder, tmp_path / "whole", recipe, store=tmp_path / "store")
    assert len(list((tmp_path / "store").glob("shard-*"))) > 2, "some are written before it stops"

    torn = tmp_path / "torn-store"
    with pytest.raises(KeyboardInterrupt):
        distill(
            teacher, world.folder, tmp_path / "x", recipe, store=torn, progress=Stops("words", 5)
        )
    begun = files(torn)
    assert 0 < len(begun) < len(files(tmp_path / "store"))
    (torn / ".shard-0-00004.1.draft").write_bytes(b"half")
    distill(teacher, world.folder, tmp_path / "x", recipe, store=torn)
    assert files(torn) == files(tmp_path / "store")
    assert begun.items() <= files(torn).items()


@pytest.fixture
def made(teachers: dict[str, Path], world: Dataset, tmp_path: Path) -> Path:
    """A store of a captioner."""
    how = replace(STUDENT, steps=1)
    distill(teachers["caption"], world.folder, tmp_path / "m", how, store=tmp_path / "store")
    return tmp_path / "store"


def test_what_is_damaged_is_named_and_asked_again_once_it_is_gone(
    made: Path, teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    def go() -> None:
        distill(teachers["caption"], world.folder, tmp_path / "x", STUDENT, store=made)

    kept = files(made)
    for pattern in ("shard-*", "importance-*", "layout-*"):
        path = next(made.glob(pattern))
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(ArtifactError, match=f"{path.name} is damaged; delete it"):
            go()
        path.unlink()
    go()
    assert files(made) == kept


def test_captions_that_were_changed_are_not_learned(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    store, how = tmp_path / "store", replace(STUDENT, said=0.5, steps=1)
    distill(teachers["caption"], world.folder, tmp_path / "m", how, store=store)
    path = store / "said.json"
    path.write_text(path.read_text().replace("captions", "caption"))
    with pytest.raises(ArtifactError, match=r"said\.json is damaged"):
        distill(teachers["caption"], world.folder, tmp_path / "x", how, store=store)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"batch": 4}, "batch was 30 and is 4"),
        ({"flip": 0.0}, r"flip was 0\.5 and is 0"),
        ({"views": 3}, "views was 1 and is 3"),
        ({"top": 16}, "top was 0 and is 16"),
        ({"max_words": 3, "precision": "bf16"}, "precision was.*max_words was"),
    ],
)
def test_a_store_of_another_recipe_is_refused(
    made: Path,
    teachers: dict[str, Path],
    world: Dataset,
    tmp_path: Path,
    change: dict[str, Any],
    differs: str,
) -> None:
    kept = files(made)
    with pytest.raises(ArtifactError, match=differs):
        how = replace(STUDENT, **change)
        distill(teachers["caption"], world.folder, tmp_path / "x", how, store=made)
    assert files(made) == kept
    assert not (tmp_path / "x").exists()


def test_a_store_of_another_teacher_seed_or_world_is_refused(
    made: Path, teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    def go(teacher: Path, data: Path, **more: Any) -> None:
        distill(teacher, data, tmp_path / "x", STUDENT, store=made, **more)

    with pytest.raises(ArtifactError, match=r"teacher was .* and is .*task was 'caption'"):
        go(teachers["vqa"], world.folder)
    with pytest.raises(ArtifactError, match="seed was 0 and is 1"):
        go(teachers["caption"], world.folder, seed=1)
    with pytest.raises(ArtifactError, match="vocabulary was None"):
        go(teachers["caption"], world.folder, vocab_from=world.folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(ArtifactError, match=r"no store.*store\.json"):
        distill(
            *(teachers["caption"], world.folder, tmp_path / "x", STUDENT),
            store=tmp_path / "full",
        )


def test_a_picture_that_has_changed_since_is_not_learned_from(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set's digest knows how large pictures are, and not what is in them."""
    monkeypatch.setattr(Dataset, "digest", lambda _: "of names and sizes")
    copy = tmp_path / "data"
    shutil.copytree(world.folder, copy)
    store, how = tmp_path / "store", replace(STUDENT, steps=1)
    distill(teachers["vqa"], copy, tmp_path / "m", how, store=store)
    for row in world.questions("train"):
        path = world.image_path(row.image)
        with Image.open(path) as picture:
            ImageOps.invert(picture.convert("RGB")).save(copy / path.relative_to(world.folder))
    with pytest.raises(ArtifactError, match="pictures or words of batch 0 are not those"):
        distill(teachers["vqa"], copy, tmp_path / "x", how, store=store)


def _unasked(*args: Any, **how: Any) -> None:
    pytest.fail("the teacher was asked")


@pytest.mark.parametrize("task", ["caption", "retrieval"])
def test_what_is_pruned_learns_from_the_store_of_a_student(
    teachers: dict[str, Path],
    world: Dataset,
    tmp_path: Path,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, shared = tmp_path / "store", {f.name for f in fields(Imitation)}
    same = {name: getattr(STUDENT, name) for name in shared}
    recipe = PruneRecipe(**same, keep=0.6, rounds=1)

    def go(name: str, **more: Any) -> list[dict[str, float]]:
        return curve(prune(teachers[task], world.folder, tmp_path / name, recipe, **more))

    online = go("online")
    distill(teachers[task], world.folder, tmp_path / "student", STUDENT, store=store)
    kept = files(store)
    for module in (objective, storing):
        monkeypatch.setattr(module, "asked_first", _unasked)
    stored = go("stored", store=store)
    assert files(store) == kept
    assert len(stored) == len(online) == STUDENT.steps
    for one, other in zip(online, stored, strict=True):
        assert other == pytest.approx(one, rel=CLOSE, abs=CLOSE)


@pytest.mark.parametrize("key", ["hidden_weight", "attention_weight"])
def test_layers_are_in_no_store(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path, key: str
) -> None:
    weights: dict[str, Any] = {key: 0.1}
    how = replace(STUDENT, **weights)
    with pytest.raises(UsageError, match=f"set {key} to 0"):
        distill(teachers["caption"], world.folder, tmp_path / "x", how, store=tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_without_a_word_a_store_has_one_view(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    how = replace(STUDENT, views=0, steps=1)
    out = distill(
        teachers["nlvr2"], world.folder, tmp_path / "x", how, store=tmp_path / "deep" / "store"
    )
    assert read_provenance(out).recipe["views"] == 1


def test_a_killed_student_goes_on_to_the_same_bytes(
    teachers: dict[str, Path], world: Dataset, tmp_path: Path
) -> None:
    how = replace(STUDENT, save_every=2)

    def go(name: str, **more: Any) -> Path:
        store = tmp_path / "store"
        data, out = world.folder, tmp_path / name
        return distill(teachers["retrieval"], data, out, how, store=store, **more)

    whole = go("whole")
    with pytest.raises(KeyboardInterrupt):
        go("torn", progress=Stops("distill", 5))
    torn = go("torn", resume=True)
    name = "model.safetensors"
    assert (torn / name).read_bytes() == (whole / name).read_bytes()
