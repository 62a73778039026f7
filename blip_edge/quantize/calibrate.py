"""Show every layer what it sees when the model is used, and note the ranges.

Calibrating a captioner on ground-truth texts would miss what its decoder meets in use: its own
words. So the float model captions the pictures greedily, and is then run once more over exactly
those tokens; with a causal mask that pass has the very activations of the search, all positions at
once. Other models are asked what they are for: see `uses`.
"""

# B pictures · T text tokens · S image side

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.models.folder import Model
from blip_edge.models.quantized import quantizable_layers
from blip_edge.preprocess import Preprocess
from blip_edge.progress import SILENT, Progress
from blip_edge.quantize.extremes import MinMax
from blip_edge.quantize.observers import Observer
from blip_edge.quantize.uses import Use
from blip_edge.training.engine import edge_model

__all__ = [
    "Look",
    "Seen",
    "Watch",
    "calibrate",
    "decode",
    "few",
    "observe",
    "pick",
    "replay",
]

Look = Callable[[Tensor, Tensor], None]
"""Called with a layer's input and output."""


class Watch(Protocol):
    """Something that looks at what a layer reads."""

    def see(self, x: Tensor) -> None:
        """Take the values of `x`, (…, I), into account.

        Raises:
            ArtifactError: one of them is not a finite number.
        """
        ...


@dataclass(frozen=True)
class Seen:
    """Pictures with the tokens that the model said of them, all of one length: no padding."""

    pixels: NDArray[np.uint8]
    """(B, S, S, 3)."""
    input_ids: Tensor
    """(B, T) int64: the tokens that the decoder is fed, so without the last one."""

    @property
    def pictures(self) -> int:
        """B."""
        return len(self.pixels)

    def show(self, model: Model) -> None:
        """Run the model over them."""
        blip = model.blip
        pixels = torch.from_numpy(model.preprocess.normalise(self.pixels))
        blip.lm_logits(self.input_ids, blip.vision_model(pixels))


def pick(
    dataset: Dataset, preprocess: Preprocess, *, samples: int, seed: int, max_bad: float = 0.01
) -> NDArray[np.uint8]:
    """At most `samples` pictures of the train split, chosen by `seed`, as (B, S, S, 3) bytes.

    Raises:
        ArtifactError: there are none, or more than `max_bad` of `samples` cannot be read.
    """
    names = list(dict.fromkeys(row.image for row in dataset.captions("train")))
    random.Random(seed).shuffle(names)
    pixels: list[NDArray[np.uint8]] = []
    bad = 0
    for name in names:
        if len(pixels) == samples:
            break
        try:
            pixels.append(preprocess.to_uint8(dataset.image_path(name)))
        except ArtifactError as error:
            bad += 1
            if bad > max_bad * samples:
                raise ArtifactError(
                    f"{bad} calibration pictures cannot be read, more than max_bad = {max_bad:g} "
                    f"of {samples} allows; the last one: {error}"
                ) from None
    if not pixels:
        raise ArtifactError(f"{dataset.folder} has no train pictures to calibrate on")
    return np.stack(pixels)


def decode(
    model: Model, pixels: NDArray[np.uint8], *, batch: int, progress: Progress = SILENT
) -> list[Seen]:
    """Caption (B, S, S, 3) pictures greedily and put those of equal length together.

    Raises:
        ArtifactError: the model has no words because a layer's input is not finite.
    """
    captioner = edge_model(model)
    greedy = model.generation.override(beams=1)
    by_length: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
    starts = range(0, len(pixels), batch)
    for first in progress.track(starts, "captioning calibration pictures", total=len(starts)):
        part = pixels[first : first + batch]
        try:
            captions = captioner.caption_pixels(model.preprocess.normalise(part), greedy)
        except ArtifactError:
            begun = torch.full((len(part), 1), greedy.bos_token_id)
            calibrate(model, [Seen(part, begun)], MinMax)  # names the layer where it begins
            raise
        for number, caption in enumerate(captions, start=first):
            fed = caption.token_ids[:-1]  # the last token is said, never read
            by_length.setdefault(len(fed), []).append((number, fed))
    return [
        Seen(pixels[[number for number, _ in part]], torch.tensor([fed for _, fed in part]))
        for _, group in sorted(by_length.items())
        for part in (group[first : first + batch] for first in range(0, len(group), batch))
    ]


def calibrate(
    model: Model,
    seen: Sequence[Use],
    make: Callable[[], Observer],
    *,
    progress: Progress = SILENT,
) -> dict[str, tuple[float, float] | None]:
    """The range of each quantizable layer's input, None for a layer that is never run.

    Raises:
        ArtifactError: a layer's input is not finite.
    """
    observers = {path: make() for path in quantizable_layers(model.blip)}
    observe(model, seen, observers, progress=progress)
    return {path: observer.span() for path, observer in observers.items()}


def observe(
    model: Model,
    seen: Sequence[Use],
    watches: Mapping[str, Watch],
    *,
    description: str = "calibrating",
    progress: Progress = SILENT,
) -> None:
    """Show each watch, by path, what its layer reads.

    Raises:
        ArtifactError: a layer's input is not finite; the layer is named.
    """
    looks = {path: _look(path, watch) for path, watch in watches.items()}
    replay(model, seen, looks, description=description, progress=progress)


def few(seen: Sequence[Use], pictures: int) -> list[Use]:
    """Parts of `seen` with about so many pictures, evenly spread, for what takes many passes."""
    total = sum(part.pictures for part in seen)
    count = min(max(1, round(len(seen) * pictures / max(total, 1))), len(seen))
    return [seen[number * len(seen) // count] for number in range(count)]


@torch.inference_mode()
def replay(
    model: Model,
    seen: Sequence[Use],
    looks: Mapping[str, Look],
    *,
    description: str = "calibrating",
    progress: Progress = SILENT,
) -> None:
    """Run the float model over `seen`; each layer's look, by path, gets its input and output."""
    blip = model.blip.eval()
    with _looking(blip, looks):
        for part in progress.track(seen, description, total=len(seen)):
            part.show(model)


@contextmanager
def _looking(blip: nn.Module, looks: Mapping[str, Look]) -> Iterator[None]:
    def hook(look: Look) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        return lambda _, inputs, output: look(inputs[0], output)

    handles = [
        blip.get_submodule(path).register_forward_hook(hook(look)) for path, look in looks.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _look(path: str, watch: Watch) -> Look:
    def look(x: Tensor, _: Tensor) -> None:
        try:
            watch.see(x)
        except ArtifactError as error:
            raise ArtifactError(
                f"the model cannot be calibrated: input of {path}: {error}"
            ) from None

    return look
