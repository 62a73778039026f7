"""Which rows a task trains on, and how much of a text it reads."""

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from blip_edge.artifact import write_json
from blip_edge.data import Dataset
from blip_edge.data.shapes import make
from blip_edge.data.texts import training_texts
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models.config import ARCHITECTURES
from blip_edge.text import Tokenizer
from blip_edge.training.recipe import Task, TrainRecipe
from blip_edge.training.source import Source
from blip_edge.training.tasks import batches_of
from tests import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("rows") / "world", tiny.WORLD, seed=3)


@pytest.fixture(scope="module")
def words(data: Dataset) -> Tokenizer:
    return Tokenizer.train([*training_texts(data), *["one two three"] * 9], 300)


def _words_read(data: Dataset, words: Tokenizer, task: Task, **keys: Any) -> list[str]:
    """The texts of one epoch of a task's rows."""
    model = replace(tiny.model(["a"], ARCHITECTURES[task]), tokenizer=words)
    recipe = TrainRecipe(task=task, batch=1, prompt="", **keys)
    batches = batches_of(Source(data), model, recipe, seed=0)
    read = islice(batches, batches.per_epoch)
    return [words.decode(row.tolist()) for batch in read for row in batch.input_ids]


def _without_web(data: Dataset, folder: Path) -> Path:
    shutil.copytree(data.folder, folder)
    (folder / "web_train.json").unlink()
    return folder


def test_pre_training_reads_the_webs_pairs_beside_peoples(data: Dataset, words: Tokenizer) -> None:
    people, web = len(data.captions("train")), len(data.web())
    assert web == tiny.WORLD.web
    assert len(_words_read(data, words, "pretrain")) == people + web
    assert len(_words_read(data, words, "caption")) == people


def test_the_webs_pairs_may_be_all_there_is(
    data: Dataset, words: Tokenizer, tmp_path: Path
) -> None:
    alone = tmp_path / "web"
    shutil.copytree(data.folder, alone)
    (alone / "caption_train.json").unlink()
    read = _words_read(Dataset.open(alone), words, "pretrain")
    assert len(read) == len(data.web())
    with pytest.raises(ArtifactError, match=r"caption_train\.json"):
        _words_read(Dataset.open(alone), words, "caption")


def test_questions_of_val_are_trained_on_when_asked_for(data: Dataset, words: Tokenizer) -> None:
    train, val = (len(data.questions(split)) for split in ("train", "val"))
    assert len(_words_read(data, words, "vqa")) == train
    assert len(_words_read(data, words, "vqa", train_on_val=True)) == train + val
    with pytest.raises(UsageError, match="leaves no val split"):
        TrainRecipe(task="vqa", train_on_val=True, eval_every=5)


def test_what_is_pre_trained_on_is_cut_after_30_tokens(
    data: Dataset, words: Tokenizer, tmp_path: Path
) -> None:
    long = _without_web(data, tmp_path / "long")
    row = {"image": data.captions("train")[0].image, "caption": "one two three " * 20}
    write_json(long / "caption_train.json", [row | {"image_id": "1"}])
    tasks: tuple[Task, ...] = ("pretrain", "retrieval")
    for task, length in zip(tasks, (30, 35), strict=True):
        model = replace(tiny.model(["a"], "BlipForPreTraining"), tokenizer=words)
        recipe = TrainRecipe(task=task, batch=1, max_words=50)
        batch = next(iter(batches_of(Source(Dataset.open(long)), model, recipe, seed=0)))
        assert batch.input_ids.shape == (1, length)
