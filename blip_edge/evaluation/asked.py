"""What a test split asks of a model, one thing after the other."""

from collections.abc import Iterator

from blip_edge.data.dataset import Dataset
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.engine import Task

__all__ = ["asked_of"]

_TEXTS = 3
"""That a picture is compared with: its own first one, and those of the next pictures."""


def asked_of(dataset: Dataset, task: Task, count: int | None = None) -> Iterator[Asked]:
    """The first `count` rows of the task's test split, or all; fewer where there are no more.

    Raises:
        ArtifactError: the data set has no test split for the task.
    """
    path = dataset.image_path
    match task:
        case "caption":
            for row in dataset.captions("test")[:count]:
                yield Asked((path(row.image),))
        case "retrieval":
            rows = dataset.retrieval("test")[:count]
            texts = [row.captions[0] for row in rows]
            for number, row in enumerate(rows):
                yield Asked((path(row.image),), tuple((texts[number:] + texts[:number])[:_TEXTS]))
        case "vqa":
            for asked in dataset.questions("test")[:count]:
                yield Asked((path(asked.image),), (asked.question,))
        case "nlvr2":
            for said in dataset.sentences("test")[:count]:
                yield Asked(tuple(path(image) for image in said.images), (said.sentence,))
