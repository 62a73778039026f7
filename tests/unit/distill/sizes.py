"""Networks of three layers a tower in every architecture, and each task's batches of a world."""

from dataclasses import replace
from itertools import islice
from typing import Any, get_args

from blip_edge.data import Dataset
from blip_edge.data.texts import texts_of
from blip_edge.models import BlipConfig, Model
from blip_edge.models.config import ARCHITECTURES, Architecture
from blip_edge.training.recipe import Task, TrainRecipe
from blip_edge.training.source import Source
from blip_edge.training.tasks import batches_of
from tests import tiny

__all__ = ["ARCHITECTURE", "TASKS", "batches", "config", "model", "training"]

ARCHITECTURE: tuple[Architecture, ...] = get_args(Architecture)
TASKS: tuple[Task, ...] = ("caption", "retrieval", "vqa", "pretrain", "nlvr2")


def config(
    architecture: Architecture = "BlipForConditionalGeneration", **changes: dict[str, Any]
) -> BlipConfig:
    """Three layers of four heads; towers 32 and 16 wide, heads 8 and 4; a twin merges from 1 on.

    `changes` are other sizes of `vision` and `text`.
    """
    small = tiny.config(architecture)
    return replace(
        small,
        vision_config=replace(
            small.vision_config, **{"num_hidden_layers": 3, **changes.get("vision", {})}
        ),
        text_config=replace(
            small.text_config,
            **{"num_hidden_layers": 3, "merge_from_layer": 1, **changes.get("text", {})},
        ),
    )


def model(world: Dataset, task: Task) -> Model:
    """A lively one of two layers a tower, the second of a twin merging, for `world`'s words."""
    made = tiny.model(list(texts_of(world)), ARCHITECTURES[task])
    text = replace(made.config.text_config, merge_from_layer=1)
    return made.with_blip(tiny.lively(replace(made.config, text_config=text)))


def training(task: Task, **changes: Any) -> TrainRecipe:
    """How the task is learned, without anything that is drawn but wrong partners."""
    plain = {"batch": 6, "prompt": "a ", "queue_size": 0, "label_smoothing": 0.0}
    return TrainRecipe(task=task, **{**plain, **changes})


def batches(world: Dataset, made: Model, task: Task, count: int = 1, **changes: Any) -> list[Any]:
    """The first of them."""
    rows = batches_of(Source(world), made, training(task, **changes), seed=0)
    return list(islice(rows, count))
