"""Golden files: pictures with everything that a bundle should make of them.

A device that shows a wrong caption can be searched from the picture on: expected pixels, expected
token ids, expected logits. They come from torch, not from the bundle, so that a device is measured
against the network itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blip_edge.artifact import inside, read_json, write_json
from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.exporters.parity import Forcing, forced_logits
from blip_edge.preprocess import open_image
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import F32

__all__ = ["Golden", "force_caption", "pictures", "read_golden", "write_golden"]

# T tokens · S image side · V vocabulary
_LONGEST_SIDE = 640


@dataclass(frozen=True)
class Golden:
    """One picture of a bundle's `golden` folder."""

    image: Path
    pixels: NDArray[np.uint8]
    """(S, S, 3)"""
    token_ids: tuple[int, ...]
    text: str
    prompt: int
    """How many of the token ids are the prompt's."""
    logits: F32
    """(T - prompt + 1, V): after the prompt and after each further token of the caption."""


def pictures(data: Path | None, count: int, *, seed: int = 0) -> Iterator[Image.Image]:
    """`count` pictures: a data set's test split if one is given, else drawn.

    Raises:
        ArtifactError: there is no test split, or one of its pictures cannot be read.
    """
    if data is None:
        yield from (_draw(np.random.default_rng([seed, number])) for number in range(count))
        return
    dataset = Dataset.open(data)
    for row in dataset.captions("test")[:count]:
        image = open_image(dataset.image_path(row.image))
        image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        yield image


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


def force_caption(model: EdgeModel, pixels: NDArray[np.uint8], ids: tuple[int, ...]) -> F32:
    """(T - prompt + 1, V) logits of a caption that is dictated, one row."""
    prompt = len(model.tokenizer.prompt_ids(model.generation.prompt))
    forcing = Forcing(
        np.asarray([ids], dtype=np.int32), np.zeros((len(ids), 1), dtype=np.int32), prompt
    )
    return forced_logits(model.captioner, model.preprocess.normalise(pixels[None]), forcing)[:, 0]


def write_golden(draft: Path, model: EdgeModel, images: list[Image.Image]) -> None:
    """Write the folder `golden` from what `model` makes of `images`."""
    folder = draft / "golden"
    folder.mkdir()
    entries: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        name = f"{number:02d}"
        image.convert("RGB").save(folder / f"{name}.png")
        pixels = model.preprocess.to_uint8(image)
        caption = model.caption(image)
        np.save(folder / f"{name}.npy", pixels)
        logits = force_caption(model, pixels, caption.token_ids)
        np.save(folder / f"{name}_logits.npy", logits.astype(np.float32))
        entries.append(
            {
                "image": f"{name}.png",
                "pixels": f"{name}.npy",
                "token_ids": list(caption.token_ids),
                "text": caption.text,
                "prompt": len(caption.token_ids) - len(logits) + 1,
                "logits": f"{name}_logits.npy",
            }
        )
    write_json(folder / "golden.json", entries)


def read_golden(bundle: Path) -> list[Golden]:
    """Read the folder `golden` of a bundle.

    Raises:
        ArtifactError: a file is missing or has another form.
    """
    folder = bundle / "golden"
    source = folder / "golden.json"
    try:
        return [
            Golden(
                image=inside(folder, entry["image"]),
                pixels=_array(inside(folder, entry["pixels"])),
                token_ids=tuple(int(token) for token in entry["token_ids"]),
                text=str(entry["text"]),
                prompt=int(entry["prompt"]),
                logits=_array(inside(folder, entry["logits"])),
            )
            for entry in read_json(source)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{source} is not a list of golden pictures: {error}") from None


def _array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; export the model again") from None
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path} is not a numpy array: {error}") from None
    return array
