"""Texts' places in a picture, drawn over it."""

import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from blip_edge.artifact import require_writable, write_bytes
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models.folder import load_model
from blip_edge.models.gradcam import heatmaps
from blip_edge.preprocess import open_image
from blip_edge.text import COMPARED_TOKENS, clean_caption

__all__ = ["draw_heatmaps"]

F32 = NDArray[np.float32]

_INCHES, _DPI = 4.0, 120
_FORMATS = ("jpeg", "jpg", "pdf", "png", "svg", "webp")


def draw_heatmaps(
    folder: Path, image: Path, texts: Sequence[str], output: Path, *, force: bool = False
) -> Path:
    """Draw the picture and, beside it, where each of `texts` is in it.

    Args:
        folder: a MODEL folder of a model that matches.
        image: the picture.
        texts: one panel each.
        output: what to write, in the format that its ending says: .png, .jpg, .svg, …
        force: replace `output` if it is there.

    Raises:
        UsageError: the ending is of no format of pictures.
        ArtifactError: the model does not match, or merges image tokens; the picture cannot be
            read; or `output` is there or cannot be written.
    """
    kind = _format(output)
    require_writable(output, force=force)
    model = load_model(folder)
    if not model.config.parts.compares:
        raise ArtifactError(f"{folder} is a {model.config.architecture}, which does not match")
    picture = open_image(image)
    cleaned = [clean_caption(text) for text in texts]
    encoded = model.tokenizer.encode(cleaned, max_length=COMPARED_TOKENS, first="enc")
    ids, mask = (torch.from_numpy(values).long() for values in encoded)
    pixels = torch.from_numpy(model.preprocess([picture]))
    maps: list[F32] = list(heatmaps(model.blip, pixels, ids, mask).numpy())
    drawn = _drawn(picture, list(zip(texts, maps, strict=True)), kind)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(output, drawn)
    except OSError as error:
        raise ArtifactError(f"{output} cannot be written: {error.strerror or error}") from None
    return output


def _format(output: Path) -> str:
    kind = output.suffix.lower().removeprefix(".")
    if kind not in _FORMATS:
        raise UsageError(f"{output} has no ending of a picture's: {', '.join(_FORMATS)}")
    return kind


def _drawn(picture: Image.Image, maps: list[tuple[str, F32]], kind: str) -> bytes:
    """The bytes of the drawing's file."""
    from matplotlib.figure import Figure

    wide = _INCHES * max(0.5, min(2.0, picture.width / picture.height))
    figure = Figure(figsize=(wide * (1 + len(maps)), _INCHES + 0.6), dpi=_DPI, layout="constrained")
    first, *others = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
    first.imshow(picture)
    for axes, (text, values) in zip(others, maps, strict=True):
        # Back to the picture's own shape: the model saw it squashed to a square.
        grid = Image.fromarray(values).resize(picture.size, Image.Resampling.BICUBIC)
        heat = np.asarray(grid).clip(0, 1)
        axes.imshow(picture.convert("L"), cmap="gray", vmin=0, vmax=255)
        axes.imshow(heat, cmap="plasma", alpha=0.8 * heat, vmin=0, vmax=1)
        told = textwrap.shorten(text, 80).replace("$", r"\$")  # which begins a formula otherwise
        axes.set_title(told, wrap=True)
    for axes in (first, *others):
        axes.set_axis_off()
    drawn = BytesIO()
    figure.savefig(drawn, format=kind)
    return drawn.getvalue()
