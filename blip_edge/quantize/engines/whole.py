"""A model in use as one network, from tensors to tensors, as other packages like to have it.

What a `Use` does with many calls, a step of the search at a time, is one pass here over exactly
what those calls read: a causal mask gives each position what it had in its step.
"""

# B pictures · T text tokens · S image side

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.models.folder import Model
from blip_edge.quantize.calibrate import Seen
from blip_edge.quantize.uses import Use, judged_by
from blip_edge.runtime.engine import Task

__all__ = ["Feed", "Whole", "feeds_of", "path_of"]

Feed = tuple[Tensor, ...]
"""What one pass reads: pixels (B, 3, S, S), then texts (B, T) int64 without padding."""
_PREFIX = "blip."


class Whole(nn.Module):
    """All that a model does for its task: a `Feed` to the tensors that the task asks for."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.blip = model.blip.eval()
        self._task = judged_by(model).task
        self._room = model.blip.config.text_config.max_position_embeddings

    def forward(self, *feed: Tensor) -> tuple[Tensor, ...]:
        return _RUN[self._task](self.blip, *feed)

    def example(self, feed: Feed) -> Feed:
        """`feed` with no free size of 0 or 1, which tracing takes for a constant."""
        pixels, *texts = feed
        if self._task == "caption" and len(pixels) == 1:
            pixels, texts = pixels.repeat(2, 1, 1, 1), [text.repeat(2, 1) for text in texts]
        texts = [text.repeat(1, 2) if text.shape[1] == 1 else text for text in texts]
        return (pixels, *texts)

    def free_sizes(self, feed: Feed) -> tuple[tuple[dict[int, Any], ...]]:
        """The free sizes of each tensor of a feed, in the nesting of `forward`'s arguments."""
        free = torch.export.Dim
        pictures = {0: free("B", min=1)} if self._task == "caption" else {}
        texts = [
            pictures | {1: free(f"T{number}", min=1, max=self._room)}
            for number in range(1, len(feed))
        ]
        return ((pictures, *texts),)


def path_of(path: str) -> str:
    """The path in Blip of the layer at `path` in `Whole`."""
    return path.removeprefix(_PREFIX)


def _caption(blip: Blip, pixels: Tensor, said: Tensor) -> tuple[Tensor, ...]:
    return (blip.lm_logits(said, blip.vision_model(pixels)),)


def _retrieval(blip: Blip, pixels: Tensor, alone: Tensor, seeing: Tensor) -> tuple[Tensor, ...]:
    cross = blip.encoder.cross(blip.vision_model(pixels))
    matched = blip.itm_logits(seeing, torch.ones_like(seeing), cross)
    return matched, blip.embed_text(alone, torch.ones_like(alone))


def _vqa(blip: Blip, pixels: Tensor, question: Tensor, said: Tensor) -> tuple[Tensor, ...]:
    every = torch.ones_like(question)
    states = blip.ground(question, every, blip.encoder.cross(blip.vision_model(pixels)))
    logits, _ = blip.decoder(said, blip.answer_cross(states, every))
    return (logits,)


def _nlvr2(blip: Blip, pixels: Tensor, sentence: Tensor) -> tuple[Tensor, ...]:
    left, right = blip.vision_model(pixels).chunk(2)
    return (blip.reason_logits(sentence, torch.ones_like(sentence), left, right),)


_RUN: dict[Task, Callable[..., tuple[Tensor, ...]]] = {
    "caption": _caption,
    "retrieval": _retrieval,
    "vqa": _vqa,
    "nlvr2": _nlvr2,
}


def feeds_of(model: Model, seen: Sequence[Use]) -> list[Feed]:
    """What `Whole` reads to do what is done in `seen`, part by part."""
    return [_feed(model, part) for part in seen]


def _feed(model: Model, part: Use) -> Feed:
    if isinstance(part, Seen):  # says what it feeds
        return torch.from_numpy(model.preprocess.normalise(part.pixels)), part.input_ids
    heard = _Heard()
    with _listening(model.blip, heard):
        part.show(model)
    said = [torch.cat(heard.said, 1)] if heard.said else []
    return (heard.pixels[0], *heard.asked, *said)


@dataclass
class _Heard:
    """What the towers were called with, in turn."""

    pixels: list[Tensor] = field(default_factory=list)
    asked: list[Tensor] = field(default_factory=list)
    said: list[Tensor] = field(default_factory=list)


@contextmanager
def _listening(blip: Blip, heard: _Heard) -> Iterator[None]:
    def note(calls: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        # Of tensors that are made for inference alone nothing can be traced.
        return lambda _, inputs: calls.append(inputs[0].clone().detach())

    towers: list[tuple[nn.Module | None, list[Tensor]]] = [
        (blip.vision_model, heard.pixels),
        (blip.text_encoder, heard.asked),
        (blip.decoder.bert if blip.text_decoder is not None else None, heard.said),
    ]
    handles = [
        tower.register_forward_pre_hook(note(calls)) for tower, calls in towers if tower is not None
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
