"""Cut layers, heads and neurons out of a BLIP, and make the tensors smaller for real.

A zeroed weight still costs a multiply on every device we target; a missing row does not. The
result computes exactly what the original would with the lost heads and neurons silenced.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from blip_edge.models.blip import Blip
from blip_edge.models.config import TextConfig, VisionConfig

__all__ = ["Keep", "LayerKeep", "cut", "everything", "last_of_each_block"]


class LayerKeep(NamedTuple):
    """What stays of one layer. The image tower has no cross-attention: its list is empty."""

    heads: list[int]
    cross_heads: list[int]
    neurons: list[int]


@dataclass(frozen=True)
class Keep:
    """What stays of a model: for each tower the layers, by their number, and what is in them."""

    vision: dict[int, LayerKeep]
    text: dict[int, LayerKeep]


def everything(blip: Blip) -> Keep:
    """Keep all there is."""
    vision, text = blip.config.vision_config, blip.config.text_config
    return Keep(
        vision={
            i: LayerKeep(list(range(heads)), [], list(range(width)))
            for i, (heads, width) in enumerate(zip(vision.heads, vision.ffn_widths, strict=True))
        },
        text={
            i: LayerKeep(*(list(range(size)) for size in sizes))
            for i, sizes in enumerate(
                zip(text.heads, text.cross_heads, text.ffn_widths, strict=True)
            )
        },
    )


def last_of_each_block(layers: int, wanted: int) -> list[int]:
    """`wanted` of `layers` layers: the last of each of as many equal blocks."""
    return [(i + 1) * layers // wanted - 1 for i in range(wanted)]


def cut(blip: Blip, keep: Keep) -> Blip:
    """A new BLIP that has only what `keep` names."""
    config = replace(
        blip.config,
        vision_config=_vision_config(blip.config.vision_config, keep),
        text_config=_text_config(blip.config.text_config, keep),
    )
    smaller = Blip(config)
    old = blip.state_dict()
    kept = {name: old[name] for name in smaller.state_dict() if not _in_layer(name)}
    heads, width = blip.config.vision_config.heads, blip.config.vision_config.head_width
    for new, (number, layer) in enumerate(keep.vision.items()):
        source, target = (f"vision_model.encoder.layers.{i}." for i in (number, new))
        kept |= _moved(old, source, target, dict(_vision_cuts(layer, heads[number], width)))
    width = blip.config.text_config.head_width
    for tower in ("text_decoder.bert", "text_encoder"):
        if not any(name.startswith(tower) for name in old):
            continue
        for new, (number, layer) in enumerate(keep.text.items()):
            source, target = (f"{tower}.encoder.layer.{i}." for i in (number, new))
            kept |= _moved(old, source, target, dict(_text_cuts(layer, width)))
    smaller.load_state_dict(kept)
    return smaller.eval()


def _in_layer(name: str) -> bool:
    return ".encoder.layer" in name


def _moved(
    old: dict[str, Tensor], source: str, target: str, cuts: dict[str, tuple[int, Tensor]]
) -> dict[str, Tensor]:
    """A layer's tensors under its new number, those named in `cuts` with fewer rows or columns."""
    moved = {}
    for name, tensor in old.items():
        if name.startswith(source):
            part = name.removeprefix(source)
            axis, index = cuts.get(part, (0, None))
            moved[target + part] = tensor if index is None else tensor.index_select(axis, index)
    return moved


def _channels(heads: list[int], width: int) -> Tensor:
    """The channels of `heads`: (len(heads) · K,)."""
    return (torch.tensor(heads, dtype=torch.long)[:, None] * width + torch.arange(width)).flatten()


def _ffn_cuts(neurons: list[int], up: str, down: str) -> Iterator[tuple[str, tuple[int, Tensor]]]:
    index = torch.tensor(neurons, dtype=torch.long)
    yield f"{up}.weight", (0, index)
    yield f"{up}.bias", (0, index)
    yield f"{down}.weight", (1, index)


def _vision_cuts(
    layer: LayerKeep, heads: int, width: int
) -> Iterator[tuple[str, tuple[int, Tensor]]]:
    channels = _channels(layer.heads, width)
    fused = torch.cat([part * heads * width + channels for part in range(3)])  # q, then k, then v
    yield "self_attn.qkv.weight", (0, fused)
    yield "self_attn.qkv.bias", (0, fused)
    yield "self_attn.projection.weight", (1, channels)
    yield from _ffn_cuts(layer.neurons, "mlp.fc1", "mlp.fc2")


def _text_cuts(layer: LayerKeep, width: int) -> Iterator[tuple[str, tuple[int, Tensor]]]:
    for attention, heads in (("attention", layer.heads), ("crossattention", layer.cross_heads)):
        channels = _channels(heads, width)
        for projection in ("query", "key", "value"):
            yield f"{attention}.self.{projection}.weight", (0, channels)
            yield f"{attention}.self.{projection}.bias", (0, channels)
        yield f"{attention}.output.dense.weight", (1, channels)
    yield from _ffn_cuts(layer.neurons, "intermediate.dense", "output.dense")


def _sizes(values: list[int]) -> int | tuple[int, ...]:
    """One number when all layers are alike, so that an evenly cut model says so."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def _vision_config(config: VisionConfig, keep: Keep) -> VisionConfig:
    layers = list(keep.vision.values())
    return replace(
        config,
        num_hidden_layers=len(layers),
        num_attention_heads=_sizes([len(layer.heads) for layer in layers]),
        intermediate_size=_sizes([len(layer.neurons) for layer in layers]),
        head_dim=config.head_width,
    )


def _text_config(config: TextConfig, keep: Keep) -> TextConfig:
    layers = list(keep.text.values())
    return replace(
        config,
        num_hidden_layers=len(layers),
        num_attention_heads=_sizes([len(layer.heads) for layer in layers]),
        cross_attention_heads=_sizes([len(layer.cross_heads) for layer in layers]),
        intermediate_size=_sizes([len(layer.neurons) for layer in layers]),
        head_dim=config.head_width,
    )
