"""Cut layers, heads, neurons and channels out of a BLIP, and make the tensors smaller for real.

A zeroed weight still costs a multiply on every device we target; a missing row does not. The
result computes exactly what the original would with the lost heads and neurons silenced, and with
the lost channels left out of its sums and norms.
"""

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from blip_edge.distill.axes import axes_of, layer_of
from blip_edge.models.blip import Blip
from blip_edge.models.config import BlipConfig, TextConfig, VisionConfig
from blip_edge.models.student import last_of_each_block
from blip_edge.models.token_schedule import resized_schedule

__all__ = ["Keep", "LayerKeep", "cut", "everything", "kept_config", "last_of_each_block"]


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
    vision_channels: list[int] | None = None
    """Of the image tower's residual stream; None keeps all, as for the others."""
    text_channels: list[int] | None = None
    embed: list[int] | None = None
    """Of the space where pictures and texts are compared."""

    def of(self, outer: "Keep") -> "Keep":
        """What two cuts leave together, first `outer` and then this: in the numbers of the first.

        Layers and channels only; heads and neurons are those of this one.
        """
        before = {"vision": list(outer.vision), "text": list(outer.text)}
        return Keep(
            vision={before["vision"][i]: layer for i, layer in self.vision.items()},
            text={before["text"][i]: layer for i, layer in self.text.items()},
            vision_channels=_within(self.vision_channels, outer.vision_channels),
            text_channels=_within(self.text_channels, outer.text_channels),
            embed=_within(self.embed, outer.embed),
        )


def _within(inner: list[int] | None, outer: list[int] | None) -> list[int] | None:
    if inner is None or outer is None:
        return outer if inner is None else inner
    return [outer[i] for i in inner]


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


def cut(blip: Blip, keep: Keep) -> Blip:
    """A new BLIP that has only what `keep` names."""
    config = blip.config
    smaller = Blip(kept_config(config, keep))
    old, index = blip.state_dict(), _indices(config, keep)
    layers = {"vision": list(keep.vision), "text": list(keep.text)}
    kept = {}
    for name in smaller.state_dict():
        source = name
        if (layer := layer_of(name)) is not None:
            tower, number = layer
            source = re.sub(r"(\.layers?\.)\d+\.", rf"\g<1>{layers[tower][number]}.", name, count=1)
        tensor = old[source]
        for axis, label in enumerate(axes_of(config, source)):
            if label in index:
                tensor = tensor.index_select(axis, index[label])
        kept[name] = tensor.clone()
    smaller.load_state_dict(kept)
    return smaller.eval()


def kept_config(config: BlipConfig, keep: Keep) -> BlipConfig:
    """The sizes of what `keep` leaves."""
    return replace(
        config,
        vision_config=_vision_config(config.vision_config, keep),
        text_config=_text_config(config.text_config, keep),
        image_text_hidden_size=_count(keep.embed, config.image_text_hidden_size),
    )


def _indices(config: BlipConfig, keep: Keep) -> dict[str | None, Tensor]:
    """What stays along each axis that is cut."""
    index: dict[str | None, Tensor] = {}
    for label, channels in (
        ("vision", keep.vision_channels),
        ("text", keep.text_channels),
        ("embed", keep.embed),
    ):
        if channels is not None:
            index[label] = torch.tensor(channels, dtype=torch.long)
    if "text" in index:  # two streams side by side
        text = index["text"]
        index["text.twice"] = torch.cat([text, text + config.text_config.hidden_size])
    for tower, layers, sizes in (
        ("vision", keep.vision, config.vision_config),
        ("text", keep.text, config.text_config),
    ):
        for number, layer in layers.items():
            at = f"{tower}.{number}"
            heads = index[f"{at}.heads"] = _channels(layer.heads, sizes.head_width)
            index[f"{at}.cross_heads"] = _channels(layer.cross_heads, sizes.head_width)
            index[f"{at}.neurons"] = torch.tensor(layer.neurons, dtype=torch.long)
            inner = sizes.heads[number] * sizes.head_width
            index[f"{at}.qkv"] = torch.cat([part * inner + heads for part in range(3)])
    return index


def _channels(heads: list[int], width: int) -> Tensor:
    """The channels of `heads`: (len(heads) · K,)."""
    return (torch.tensor(heads, dtype=torch.long)[:, None] * width + torch.arange(width)).flatten()


def _count(kept: list[int] | None, there: int) -> int:
    return there if kept is None else len(kept)


def _sizes(values: list[int]) -> int | tuple[int, ...]:
    """One number when all layers are alike, so that an evenly cut model says so."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def _vision_config(config: VisionConfig, keep: Keep) -> VisionConfig:
    layers = list(keep.vision.values())
    return replace(
        config,
        hidden_size=_count(keep.vision_channels, config.hidden_size),
        num_hidden_layers=len(layers),
        num_attention_heads=_sizes([len(layer.heads) for layer in layers]),
        intermediate_size=_sizes([len(layer.neurons) for layer in layers]),
        head_dim=config.head_width,
        tokens_kept=_tokens(config, keep),
    )


def _tokens(config: VisionConfig, keep: Keep) -> tuple[int, ...] | None:
    """What is left after each layer; without some, the others merge as much as they can."""
    if config.tokens_kept is None:
        return None
    left = [config.tokens_kept[i] for i in keep.vision]
    return resized_schedule(left, config.num_tokens, config.num_tokens)


def _text_config(config: TextConfig, keep: Keep) -> TextConfig:
    layers = list(keep.text.values())
    return replace(
        config,
        hidden_size=_count(keep.text_channels, config.hidden_size),
        encoder_hidden_size=_count(keep.vision_channels, config.encoder_hidden_size),
        num_hidden_layers=len(layers),
        merge_from_layer=sum(number < config.merge_from_layer for number in keep.text),
        num_attention_heads=_sizes([len(layer.heads) for layer in layers]),
        cross_attention_heads=_sizes([len(layer.cross_heads) for layer in layers]),
        intermediate_size=_sizes([len(layer.neurons) for layer in layers]),
        head_dim=config.head_width,
    )
