"""Checkpoints as BLIP's authors released them, written from the table of their names and shapes.

Names and shapes stand here a second time, and not by way of the code that reads them. Beside each
is the name that Hugging Face's classes have for it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["BASE", "LARGE", "TASKS", "Sizes", "checkpoint", "layout", "write", "write_words"]

TASKS = ("pretrain", "caption", "retrieval", "vqa", "nlvr2")

Entry = tuple[str, str, tuple[int, ...]]
"""Official name, Hugging Face's name, shape."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Heads are 64 wide, networks inside layers four times as wide as the tower."""

    vision: int = 128
    vision_layers: int = 2
    text: int = 128
    text_layers: int = 2
    image: int = 32
    patch: int = 8
    words: int = 60
    positions: int = 24
    shared: int = 32
    queue: int = 40


BASE = Sizes()
LARGE = Sizes(vision=192, vision_layers=3)
"""The image tower is wider than the text tower, as in the larger model."""


def layout(task: str, sizes: Sizes = BASE) -> list[Entry]:
    """What a file of `task` holds beside momentum copies, queues and buffers."""
    wide = sizes.vision
    entries = list(_vision("visual_encoder", sizes))
    if task in ("pretrain", "retrieval", "vqa"):
        entries += _bert("text_encoder", sizes, wide)
    if task == "nlvr2":
        entries += _bert("text_encoder", sizes, wide, twin=True)
    if task in ("pretrain", "caption", "vqa"):
        # An answer is decoded from the states of the question.
        entries += _bert("text_decoder.bert", sizes, sizes.text if task == "vqa" else wide)
        entries += _language_head(sizes)
    if task in ("pretrain", "retrieval"):
        entries += _linear("vision_proj", sizes.shared, wide)
        entries += _linear("text_proj", sizes.shared, sizes.text)
        entries += _linear("itm_head", 2, sizes.text)
    if task == "nlvr2":
        entries += _linear("cls_head.0", sizes.text, sizes.text)
        entries += _linear("cls_head.2", 2, sizes.text)
    return entries


def _linear(name: str, out: int, into: int, *, hugging_face: str | None = None) -> Iterator[Entry]:
    theirs = hugging_face or name
    yield f"{name}.weight", f"{theirs}.weight", (out, into)
    yield f"{name}.bias", f"{theirs}.bias", (out,)


def _norm(name: str, width: int, *, hugging_face: str | None = None) -> Iterator[Entry]:
    theirs = hugging_face or name
    yield f"{name}.weight", f"{theirs}.weight", (width,)
    yield f"{name}.bias", f"{theirs}.bias", (width,)


def _vision(tower: str, sizes: Sizes) -> Iterator[Entry]:
    width, tokens = sizes.vision, (sizes.image // sizes.patch) ** 2 + 1
    ours = "vision_model.embeddings"
    yield f"{tower}.cls_token", f"{ours}.class_embedding", (1, 1, width)
    yield f"{tower}.pos_embed", f"{ours}.position_embedding", (1, tokens, width)
    patch = (width, 3, sizes.patch, sizes.patch)
    yield f"{tower}.patch_embed.proj.weight", f"{ours}.patch_embedding.weight", patch
    yield f"{tower}.patch_embed.proj.bias", f"{ours}.patch_embedding.bias", (width,)
    for number in range(sizes.vision_layers):
        block, layer = f"{tower}.blocks.{number}", f"vision_model.encoder.layers.{number}"
        yield from _norm(f"{block}.norm1", width, hugging_face=f"{layer}.layer_norm1")
        yield from _norm(f"{block}.norm2", width, hugging_face=f"{layer}.layer_norm2")
        for name, theirs, out, into in (
            ("attn.qkv", "self_attn.qkv", 3 * width, width),
            ("attn.proj", "self_attn.projection", width, width),
            ("mlp.fc1", "mlp.fc1", 4 * width, width),
            ("mlp.fc2", "mlp.fc2", width, 4 * width),
        ):
            yield from _linear(f"{block}.{name}", out, into, hugging_face=f"{layer}.{theirs}")
    yield from _norm(f"{tower}.norm", width, hugging_face="vision_model.post_layernorm")


def _bert(tower: str, sizes: Sizes, read: int, *, twin: bool = False) -> Iterator[Entry]:
    width = sizes.text
    words = f"{tower}.embeddings.word_embeddings.weight"
    yield words, words, (sizes.words, width)
    positions = f"{tower}.embeddings.position_embeddings.weight"
    yield positions, positions, (sizes.positions, width)
    yield from _norm(f"{tower}.embeddings.LayerNorm", width)
    for number in range(sizes.text_layers):
        layer = f"{tower}.encoder.layer.{number}"
        for name in ("query", "key", "value"):
            yield from _linear(f"{layer}.attention.self.{name}", width, width)
        yield from _linear(f"{layer}.attention.output.dense", width, width)
        yield from _norm(f"{layer}.attention.output.LayerNorm", width)
        for side in ("0", "1") if twin else ("",):
            yield from _linear(f"{layer}.crossattention.self{side}.query", width, width)
            yield from _linear(f"{layer}.crossattention.self{side}.key", width, read)
            yield from _linear(f"{layer}.crossattention.self{side}.value", width, read)
            yield from _linear(f"{layer}.crossattention.output.dense{side}", width, width)
        yield from _norm(f"{layer}.crossattention.output.LayerNorm", width)
        if twin and number >= 6:
            yield from _linear(f"{layer}.crossattention.output.merge_layer", width, 2 * width)
        yield from _linear(f"{layer}.intermediate.dense", 4 * width, width)
        yield from _linear(f"{layer}.output.dense", width, 4 * width)
        yield from _norm(f"{layer}.output.LayerNorm", width)


def _language_head(sizes: Sizes) -> Iterator[Entry]:
    head = "text_decoder.cls.predictions"
    yield from _linear(f"{head}.transform.dense", sizes.text, sizes.text)
    yield from _norm(f"{head}.transform.LayerNorm", sizes.text)
    yield f"{head}.bias", f"{head}.bias", (sizes.words,)


def checkpoint(
    task: str, sizes: Sizes = BASE, *, seed: int = 0, buffers: bool = True
) -> dict[str, Tensor]:
    """The state dict of an official file: tied weights under all their names, copies and queues.

    Weights are large enough that a lost layer or a swapped head shows. With `buffers` the numbers
    of positions are in it, as older versions of `transformers` store them.
    """
    source = torch.Generator().manual_seed(seed)
    weights = {name: _drawn(name, shape, source) for name, _, shape in layout(task, sizes)}
    if task == "pretrain":  # everything but self-attention is one weight
        for name in [name for name in weights if name.startswith("text_encoder.")]:
            if ".attention." not in name:
                weights[name] = weights[name.replace("text_encoder.", "text_decoder.bert.")]
    head = "text_decoder.cls.predictions"
    if f"{head}.bias" in weights:
        words = weights["text_decoder.bert.embeddings.word_embeddings.weight"]
        weights[f"{head}.decoder.weight"] = words
        weights[f"{head}.decoder.bias"] = weights[f"{head}.bias"]
    if buffers:
        for tower in ("text_encoder", "text_decoder.bert"):
            if f"{tower}.embeddings.word_embeddings.weight" in weights:
                numbers = torch.arange(sizes.positions)[None]
                weights[f"{tower}.embeddings.position_ids"] = numbers
    if task in ("pretrain", "retrieval"):
        weights |= _of_training(weights, task, sizes, source)
    return weights


def _of_training(
    weights: dict[str, Tensor], task: str, sizes: Sizes, source: torch.Generator
) -> dict[str, Tensor]:
    """The temperature, momentum copies with values of their own, and queues."""
    extra = {"temp": torch.tensor(0.0531)}
    for name, tensor in weights.items():
        part, _, rest = name.partition(".")
        if part in ("visual_encoder", "text_encoder", "vision_proj", "text_proj"):
            copy = tensor if "position_ids" in name else _drawn(name, tuple(tensor.shape), source)
            extra[f"{part}_m.{rest}"] = copy
    for queue in ("image_queue", "text_queue"):
        extra[queue] = torch.randn(sizes.shared, sizes.queue, generator=source)
    if task == "pretrain":
        return {**extra, "queue_ptr": torch.zeros(1, dtype=torch.long)}
    numbers = torch.full((1, sizes.queue), -100)
    return {**extra, "idx_queue": numbers, "ptr_queue": torch.zeros(1, dtype=torch.long)}


def _drawn(name: str, shape: tuple[int, ...], source: torch.Generator) -> Tensor:
    drawn: Tensor = torch.randn(shape, generator=source)
    if "norm" in name.lower() and name.endswith("weight"):
        return 1 + 0.2 * drawn
    if len(shape) == 1:
        return 0.2 * drawn
    if "embed" in name or "token" in name:
        return 0.5 * drawn
    return drawn * (1.5 / math.sqrt(shape[-1]))


def write(path: Path, weights: dict[str, Tensor], *, bare: bool = False) -> Path:
    """Save `weights` as the authors' training scripts do, or as a bare state dict."""
    whole = {"model": weights, "optimizer": {}, "config": {"image_size": 32}, "epoch": 4}
    torch.save(weights if bare else whole, path)
    return path


def write_words(path: Path, count: int = BASE.words - 2) -> Path:
    """A BERT vocabulary of `count` words."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "picture", "of"]
    path.write_text("\n".join([*special, *(f"w{n}" for n in range(count - len(special)))]))
    return path
