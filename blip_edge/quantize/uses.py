"""What a model is calibrated on: training pictures, used as the model will be used."""

# B pictures · S image side

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.models.folder import Model
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import Task
from blip_edge.training.engine import edge_model

__all__ = ["Judged", "Use", "judged_by", "uses_of"]


class Use(Protocol):
    """Something that a model does with pictures."""

    @property
    def pictures(self) -> int:
        """How many."""
        ...

    def show(self, model: Model) -> None:
        """Run the model on it."""
        ...


class Judged(NamedTuple):
    """How the quality of a model is told, on which split."""

    task: Task
    split: str
    metric: str


_JUDGED: dict[Task, Judged] = {
    "caption": Judged("caption", "val", "CIDEr"),
    "retrieval": Judged("retrieval", "val", "r_mean"),
    "vqa": Judged("vqa", "val", "vqa_accuracy"),
    "nlvr2": Judged("nlvr2", "dev", "accuracy"),
}


def judged_by(model: Model) -> Judged:
    """By what it was trained for, the first of several tasks."""
    return _JUDGED[edge_model(model).engine.tasks[0]]


@dataclass(frozen=True)
class _Asked:
    """One row of a data set: its pictures, its text, and the question in form of a call."""

    images: tuple[Image.Image, ...]
    text: str
    ask: Callable[[EdgeModel, Sequence[Image.Image], str], object]

    @property
    def pictures(self) -> int:
        return len(self.images)

    def show(self, model: Model) -> None:
        self.ask(edge_model(model), self.images, self.text)


def uses_of(
    task: Task,
    dataset: Dataset,
    preprocess: Preprocess,
    *,
    samples: int,
    seed: int,
    max_bad: float = 0.01,
) -> list[Use]:
    """At most `samples` rows of the train split, chosen by `seed`, for any task but captioning.

    Raises:
        ArtifactError: there are none, or pictures of more than `max_bad` of them cannot be read.
    """
    rows = _rows(task, dataset)
    random.Random(seed).shuffle(rows)
    found: list[Use] = []
    bad = 0
    for names, text in rows:
        if len(found) == samples:
            break
        try:
            pixels = [preprocess.to_uint8(dataset.image_path(name)) for name in names]
        except ArtifactError as error:
            bad += 1
            if bad > max_bad * samples:
                raise ArtifactError(
                    f"{bad} calibration rows have pictures that cannot be read, more than max_bad "
                    f"= {max_bad:g} of {samples} allows; the last one: {error}"
                ) from None
            continue
        found.append(_Asked(tuple(_picture(each) for each in pixels), text, _ASK[task]))
    if not found:
        raise ArtifactError(f"{dataset.folder} has no train rows for {task} to calibrate on")
    return found


def _picture(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels)


def _rows(task: Task, dataset: Dataset) -> list[tuple[tuple[str, ...], str]]:
    if task == "retrieval":
        return [((row.image,), row.captions[0]) for row in dataset.retrieval("train")]
    if task == "vqa":
        return [((row.image,), row.question) for row in dataset.questions("train")]
    return [(row.images, row.sentence) for row in dataset.sentences("train")]


def _compare(model: EdgeModel, images: Sequence[Image.Image], text: str) -> object:
    return model.match(images[0], [text])


def _answer(model: EdgeModel, images: Sequence[Image.Image], text: str) -> object:
    return model.answer(images[0], text, beams=1)


def _reason(model: EdgeModel, images: Sequence[Image.Image], text: str) -> object:
    return model.reason(images[0], images[1], text)


_ASK = {"retrieval": _compare, "vqa": _answer, "nlvr2": _reason}
