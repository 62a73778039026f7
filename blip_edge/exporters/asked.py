"""What bundles are tried with: pictures and texts of a data set's test split, or drawn ones."""

# S image side

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from blip_edge.data.dataset import Dataset
from blip_edge.evaluation.asked import asked_of
from blip_edge.preprocess import open_image
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.engine import Task
from blip_edge.runtime.loaded import Picture
from blip_edge.text import Tokenizer

__all__ = ["examples", "pictures"]

_LONGEST_SIDE = 640
_WORDS = (3, 10)  # tokens of a text that is made up, at least and fewer than
_TEXTS = 3  # that a picture is compared with


def examples(
    task: Task, data: Path | None, count: int, tokenizer: Tokenizer, *, seed: int = 0
) -> list[Asked]:
    """`count` things to do, fewer where a data set's test split has no more.

    Without a data set pictures are drawn, and texts are random words of the vocabulary.

    Raises:
        ArtifactError: the data set has no test split for the task, or a picture cannot be read.
    """
    if data is not None:
        rows = asked_of(Dataset.open(data), task, count)
        return [replace(row, images=tuple(map(_opened, row.images))) for row in rows]
    random = np.random.default_rng(seed)
    numbers = {"caption": 0, "retrieval": _TEXTS}
    texts = [
        tuple(_made_up(tokenizer, random) for _ in range(numbers.get(task, 1)))
        for _ in range(count)
    ]
    drawn = list(pictures(None, 2 * count, seed=seed))
    if task == "nlvr2":
        return [Asked(pair, said) for pair, said in zip(_pairs(drawn), texts, strict=True)]
    return [Asked((one,), said) for one, said in zip(drawn, texts, strict=False)]


def pictures(data: Path | None, count: int, *, seed: int = 0) -> Iterator[Image.Image]:
    """`count` pictures: of a data set's captions for testing if one is given, else drawn.

    Raises:
        ArtifactError: there is no test split, or one of its pictures cannot be read.
    """
    if data is None:
        yield from (_draw(np.random.default_rng([seed, number])) for number in range(count))
        return
    dataset = Dataset.open(data)
    for row in dataset.captions("test")[:count]:
        yield _opened(dataset.image_path(row.image))


def _opened(image: Picture) -> Image.Image:
    found = open_image(Path(str(image)))
    found.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return found


def _pairs(drawn: list[Image.Image]) -> list[tuple[Picture, ...]]:
    return list(zip(drawn[::2], drawn[1::2], strict=True))


def _made_up(tokenizer: Tokenizer, random: np.random.Generator) -> str:
    ids = random.integers(0, tokenizer.vocab_size, int(random.integers(*_WORDS)))
    return tokenizer.decode(ids.tolist())


def _draw(random: np.random.Generator) -> Image.Image:
    """A picture with edges, gradients and flat places."""
    width, height = (int(side) for side in random.integers(96, 161, 2))
    rise = np.linspace(0, 1, height)[:, None, None] + np.linspace(0, 1, width)[None, :, None]
    ends = random.integers(0, 256, (2, 3))
    ground = ends[0] + (ends[1] - ends[0]) * rise / 2
    image = Image.fromarray(ground.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for shape in (pen.rectangle, pen.ellipse):
        left, top = int(random.integers(0, width // 2)), int(random.integers(0, height // 2))
        corner = (left + width // 3, top + height // 3)
        red, green, blue = (int(c) for c in random.integers(0, 256, 3))
        shape([(left, top), corner], fill=(red, green, blue))
    return image
