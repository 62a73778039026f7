"""Golden files: pictures and texts with everything that a bundle should make of them.

A device that shows a wrong caption can be searched from the picture on: expected pixels, expected
words, expected logits. They come from torch, not from the bundle, so that a device is measured
against the network itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.artifact import inside, read_json, write_json
from blip_edge.errors import ArtifactError
from blip_edge.exporters.probes import PROBES, Said
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import F32, Task

__all__ = ["Golden", "read_golden", "write_golden"]

# S image side


@dataclass(frozen=True)
class Golden:
    """One entry of a bundle's `golden` folder."""

    task: Task
    asked: Asked
    """Its pictures are files."""
    pixels: tuple[NDArray[np.uint8], ...]
    """(S, S, 3) of each picture."""
    said: Said
    """Token ids of a caption, an answer, a label; "" where texts are compared."""
    arrays: dict[str, F32]
    """Logits of what was said, or vectors; see `probes`."""


def write_golden(draft: Path, model: EdgeModel, asked: Mapping[Task, Sequence[Asked]]) -> None:
    """Write the folder `golden`: golden.json, and a PNG and arrays for each of `asked`.

    `model` is torch's, whose numbers are the expected ones.
    """
    folder = draft / "golden"
    folder.mkdir()
    entries = [
        _entry(folder, f"{task}{number}", model, task, one)
        for task, some in asked.items()
        for number, one in enumerate(some)
    ]
    write_json(folder / "golden.json", entries)


def _entry(folder: Path, name: str, model: EdgeModel, task: Task, asked: Asked) -> dict[str, Any]:
    images, pixels = [], []
    for side, image in enumerate(asked.images):
        assert isinstance(image, Image.Image)
        image.save(folder / f"{name}_{side}.png")
        images.append(f"{name}_{side}.png")
        pixels.append(_saved(folder / f"{name}_{side}.npy", model.preprocess.to_uint8(image)))
    said = PROBES[task].says(model, asked, None)
    arrays = PROBES[task].arrays(model, asked, said)
    return {
        "task": task,
        "images": images,
        "pixels": pixels,
        "texts": list(asked.texts),
        "said": said,
        "arrays": {
            key: _saved(folder / f"{name}_{key}.npy", value.astype(np.float32))
            for key, value in arrays.items()
        },
    }


def _saved(path: Path, array: NDArray[Any]) -> str:
    np.save(path, array)
    return path.name


def read_golden(bundle: Path) -> list[Golden]:
    """Read the folder `golden` of a bundle.

    Raises:
        ArtifactError: a file is missing or has another form.
    """
    folder = bundle / "golden"
    source = folder / "golden.json"
    try:
        return [_read(folder, entry) for entry in read_json(source)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{source} is not a list of golden pictures: {error}") from None


def _read(folder: Path, entry: dict[str, Any]) -> Golden:
    if entry["task"] not in get_args(Task):
        raise ValueError(f"unknown task {entry['task']!r}")
    said = entry["said"]
    return Golden(
        task=entry["task"],
        asked=Asked(
            tuple(inside(folder, name) for name in entry["images"]),
            tuple(str(text) for text in entry["texts"]),
        ),
        pixels=tuple(_array(inside(folder, name)) for name in entry["pixels"]),
        said=said if isinstance(said, str) else [int(token) for token in said],
        arrays={key: _array(inside(folder, name)) for key, name in entry["arrays"].items()},
    )


def _array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; export the model again") from None
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path} is not a numpy array: {error}") from None
    return array
