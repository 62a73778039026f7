"""Every task from a pre-trained model on a drawn world: trained, kept, resumed, measured, asked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blip_edge.artifact import read_provenance
from blip_edge.data import Dataset
from blip_edge.data.shapes import make
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation import EvalSettings, evaluate
from blip_edge.models import load_model
from blip_edge.models.config import ARCHITECTURES
from blip_edge.training import TrainRecipe, train
from blip_edge.training.recipe import Task
from blip_edge.training.transfer import transfer
from tests import tiny

PRETRAIN = TrainRecipe(
    task="pretrain",
    steps=2,
    batch=4,
    lr=1e-3,
    image_size=24,
    patch_size=8,
    vision_layers=2,
    vision_width=16,
    vision_heads=2,
    text_layers=2,
    text_width=16,
    text_heads=2,
    embed_dim=8,
    vocab_size=300,
    max_positions=64,
    queue_size=8,
    dropout=0.1,
    prompt="",
    max_length=12,
)
TASKS: dict[Task, tuple[str, str]] = {
    "caption": ("test", "CIDEr"),
    "retrieval": ("test", "r_mean"),
    "vqa": ("test", "vqa_accuracy"),
    "nlvr2": ("test", "accuracy"),
    "visdial": ("val", "MRR"),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = replace(tiny.WORLD, train=12, dialogs=3, questions=2, sentences=2)
    return make(tmp_path_factory.mktemp("every") / "world", recipe, seed=5).folder


@pytest.fixture(scope="module")
def pretrained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(world, tmp_path_factory.mktemp("every") / "pretrained", PRETRAIN)


def recipe(task: Task, **changes: Any) -> TrainRecipe:
    return replace(PRETRAIN, task=task, **{"steps": 2, "save_every": 1, **changes})


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_learned_and_measured(
    world: Path, pretrained: Path, tmp_path: Path, task: Task
) -> None:
    folder = train(world, tmp_path / "model", recipe(task, eval_every=1), init=pretrained)
    model = load_model(folder)
    assert model.config.architecture == ARCHITECTURES[task]
    assert not (tmp_path / "model.checkpoints").exists(), "a finished run needs no checkpoints"
    split, metric = TASKS[task]
    found = evaluate(folder, world, task=task, split=split, how=EvalSettings(limit=4))
    assert found.metrics[metric] >= 0
    assert found.items >= 3
    points = read_provenance(folder).history
    assert sum("metric" in point for point in points) == 2
    before = load_model(pretrained).blip.vision_model.state_dict()
    after = model.blip.vision_model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_vocabulary_knows_the_words_of_all_tasks(world: Path, pretrained: Path) -> None:
    words = load_model(pretrained).tokenizer
    question = Dataset.open(world).questions("train")[0].question.lower()
    ids, _ = words.encode([question])
    assert words.unk not in ids
    assert ids.shape[1] <= len(question.replace("?", " ?").split()) + 4


class _Stops:
    """Interrupts a run after some steps, and keeps the lines that are said."""

    def __init__(self, after: int) -> None:
        self.after, self.said = after, list[str]()

    def track(self, items: Any, description: str, *, total: int | None = None) -> Any:
        for number, item in enumerate(items):
            if description.startswith("train") and number == self.after:
                raise KeyboardInterrupt
            yield item

    def note(self, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    world: Path, pretrained: Path, tmp_path: Path
) -> None:
    how = recipe("retrieval", steps=5, save_every=2, min_crop=0.5, flip=0.5, augment_ops=2)
    whole = train(world, tmp_path / "whole", how, init=pretrained, seed=3)
    torn = tmp_path / "torn"
    with pytest.raises(KeyboardInterrupt):
        train(world, torn, how, init=pretrained, seed=3, progress=_Stops(3))
    assert not torn.exists()
    with pytest.raises(ArtifactError, match="--resume"):
        train(world, torn, how, init=pretrained, seed=3)
    with pytest.raises(UsageError, match="lr was"):
        train(world, torn, replace(how, lr=0.5), init=pretrained, seed=3, resume=True)
    train(world, torn, how, init=pretrained, seed=3, resume=True)
    name = "model.safetensors"
    assert (torn / name).read_bytes() == (whole / name).read_bytes()
    assert not (tmp_path / "torn.checkpoints").exists()
    # Finished: nothing is done again, unless it is another recipe that is asked for.
    stamp = (torn / name).stat().st_mtime_ns
    train(world, torn, how, init=pretrained, seed=3, resume=True)
    assert (torn / name).stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match="lr differ"):
        train(world, torn, replace(how, lr=0.5), init=pretrained, seed=3, resume=True)


def test_a_torn_run_is_found_whatever_save_every_says(
    world: Path, pretrained: Path, tmp_path: Path
) -> None:
    """It would be trained from the start again, and its checkpoints left behind for ever."""
    how = recipe("retrieval", steps=4)
    whole = train(world, tmp_path / "whole", how, init=pretrained)
    torn, how = tmp_path / "torn", replace(how, workers=1)
    with pytest.raises(KeyboardInterrupt):
        train(world, torn, how, init=pretrained, progress=_Stops(3))
    how = replace(how, save_every=0, workers=0, max_bad=0.5)
    with pytest.raises(ArtifactError, match="stopped after step"):
        train(world, torn, how, init=pretrained)
    told = _Stops(4)
    train(world, torn, how, init=pretrained, resume=True, progress=told)
    assert told.said == ["continuing after step 3 of 4"]
    name = "model.safetensors"
    assert (torn / name).read_bytes() == (whole / name).read_bytes()
    assert not (tmp_path / "torn.checkpoints").exists()
    train(world, torn, replace(how, max_bad=0.1, save_every=3), init=pretrained, resume=True)


def test_a_finished_model_of_something_else_is_not_taken_for_this_one(
    world: Path, pretrained: Path, tmp_path: Path
) -> None:
    """A corrected data set, or a better model to start from, would silently go unused."""
    how = recipe("nlvr2", steps=1)
    out = train(world, tmp_path / "m", how, init=pretrained)
    other = shutil.copytree(world, tmp_path / "other")
    rows = json.loads((other / "nlvr_train.json").read_text())
    (other / "nlvr_train.json").write_text(json.dumps(rows[1:]))
    with pytest.raises(UsageError, match=r"from other data than .*other; give another -o"):
        train(other, out, how, init=pretrained, resume=True)
    with pytest.raises(UsageError, match="from other models or towers; give another -o"):
        train(world, out, how, init=out, resume=True)
    with pytest.raises(ArtifactError, match="gone is missing"):
        train(world, out, how, init=tmp_path / "gone", resume=True)
    train(world, out, how, init=pretrained, resume=True)


def test_force_begins_again(world: Path, pretrained: Path, tmp_path: Path) -> None:
    how = recipe("nlvr2", steps=3)
    with pytest.raises(KeyboardInterrupt):
        train(world, tmp_path / "m", how, init=pretrained, progress=_Stops(2))
    train(world, tmp_path / "m", how, init=pretrained, force=True)
    assert not (tmp_path / "m.checkpoints").exists()


def test_force_forgets_nothing_that_is_to_be_resumed(
    world: Path, pretrained: Path, tmp_path: Path
) -> None:
    """Scripts pass both: the old output may go, days of training may not."""
    how = recipe("nlvr2", steps=4)
    with pytest.raises(KeyboardInterrupt):
        train(world, tmp_path / "m", how, init=pretrained, progress=_Stops(3))
    told = _Stops(4)
    train(world, tmp_path / "m", how, init=pretrained, progress=told, resume=True, force=True)
    assert "continuing after step 3 of 4" in told.said


def test_two_pictures_start_as_the_one_that_was_pretrained(pretrained: Path) -> None:
    start = load_model(pretrained)
    config = replace(start.config, architecture=ARCHITECTURES["nlvr2"])
    blip, fresh, lacking = transfer(start.blip, config, source="x")
    blip.eval()
    assert not lacking
    assert {name.split(".")[0] for name in fresh} == {"cls_head"}
    single = start.blip.encoder.blocks[0].crossattention
    twin = blip.encoder.blocks[0].crossattention
    for side in (twin.self0, twin.self1):
        assert torch.equal(side.key.weight, single.self.key.weight)
    assert torch.equal(twin.output.dense1.weight, single.output.dense.weight)
    # One picture twice is what the pre-trained encoder saw.
    ids = torch.tensor([[5, 6, 7, 8]])
    tokens = blip.image_tokens(torch.randn(1, 3, 24, 24))
    with torch.no_grad():
        before = start.blip.ground(ids, torch.ones_like(ids), start.blip.encoder.cross(tokens))
        after, _ = blip.encoder(ids, None, blip.encoder.twin_cross(tokens, tokens))
    torch.testing.assert_close(after, before)


def test_what_cannot_be_given_is_fresh_or_refused(
    world: Path, pretrained: Path, tmp_path: Path
) -> None:
    captioner = train(world, tmp_path / "captioner", recipe("caption"), init=pretrained)
    with pytest.raises(ArtifactError, match=r"without .*text_encoder.*pre-trained model"):
        train(world, tmp_path / "vqa", recipe("vqa"), init=captioner)
    wide = train(world, tmp_path / "wide", replace(PRETRAIN, vision_width=32))
    answerer = train(world, tmp_path / "answerer", recipe("vqa"), init=wide)
    key = load_model(answerer).blip.decoder.bert.blocks[0].crossattention.self.key
    assert key.in_features == 16
    with pytest.raises(ArtifactError, match="32 wide and its texts 16"):
        train(world, tmp_path / "visdial", recipe("visdial"), init=wide)


def test_pretraining_has_nothing_to_be_chosen_by() -> None:
    with pytest.raises(UsageError, match="eval_every must be 0"):
        replace(PRETRAIN, eval_every=5)
