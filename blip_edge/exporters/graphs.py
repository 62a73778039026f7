"""The networks that are exported: small modules around Blip with declared inputs and outputs.

A captioner becomes two graphs. `vision` runs once per picture and ends in the keys and values that
the decoder's cross-attention reads, so that nothing about the picture is computed at a token.
`decoder` is one step of the search: it reorders its cache by beam, appends tokens, and gives the
logits after the last one. The declaration beside each forward is the only place where names and
shapes are written: dynamic axes, example inputs, the manifest and the checks are read off it.
"""

# B images · R rows = B x beams · Q rows of the step before · T text tokens · P past tokens
# N image tokens · V vocabulary · H heads · K width of a head · S image side
# C length of a static cache

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.attention import MASKED, Cross, causal_mask
from blip_edge.models.blip import Blip
from blip_edge.models.quantized import QuantizedLinear
from blip_edge.runtime.manifest import LayerCache, Port

__all__ = ["DecoderGraph", "Graph", "StaticDecoderGraph", "VisionGraph", "cache_layers"]

# What a free size is given while a graph is traced: none is 0 or 1, which tracing takes for a
# constant, and the two that are free of each other differ.
_TRACED = {"R": 2, "Q": 3, "T": 3, "P": 2}

# Read once per picture, with the image tower, though they belong to the decoder's layers.
_CROSS_INPUTS = (".crossattention.self.key", ".crossattention.self.value")


def cache_layers(blip: Blip) -> list[LayerCache]:
    """Heads and head widths of each decoder layer."""
    text = blip.config.text_config
    heads = zip(text.heads, text.cross_heads, strict=True)
    return [LayerCache(own, cross, text.head_width) for own, cross in heads]


class Graph(nn.Module):
    """A module whose inputs and outputs are tensors with names and declared shapes."""

    name: str
    inputs: dict[str, Port]
    outputs: dict[str, Port]

    def runs(self, path: str) -> bool:
        """Whether the layer at `path` in Blip is part of this graph."""
        once = path.startswith("vision_model.") or path.endswith(_CROSS_INPUTS)
        generates = path.startswith(("vision_model.", "text_decoder."))
        return generates and once == (self.name == "vision")

    def int8_layers(self) -> dict[str, QuantizedLinear]:
        """The 8-bit layers that this graph runs, by path."""
        return {
            path: module
            for path, module in self.named_modules()
            if isinstance(module, QuantizedLinear) and self.runs(path)
        }

    def examples(self, sizes: Mapping[str, int] = _TRACED, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs, free sizes as given, in declared order."""
        generator = torch.Generator().manual_seed(seed)
        made = []
        for port in self.inputs.values():
            shape = [sizes[size] if isinstance(size, str) else size for size in port.shape]
            if port.dtype == "float32":
                made.append(torch.randn(shape, generator=generator))
            else:
                made.append(torch.zeros(shape, dtype=torch.int32))
        return tuple(made)


class VisionGraph(Graph):
    """(1, 3, S, S) pixels to each decoder layer's cross-attention keys and values."""

    name = "vision"

    def __init__(self, blip: Blip) -> None:
        super().__init__()
        vision = blip.config.vision_config
        side = vision.image_size
        self.vision_model = blip.vision_model
        self.text_decoder = blip.decoder
        self.inputs = {"pixel_values": Port((1, 3, side, side), "float32")}
        self.outputs = _cross_ports(cache_layers(blip), vision.num_tokens)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """cross_key_i (1, H, K, N) and cross_value_i (1, H, N, K) for each layer i in turn."""
        cross = self.text_decoder.bert.cross(self.vision_model(pixel_values))
        return tuple(tensor for layer in cross for tensor in (layer.key, layer.value))


class DecoderGraph(Graph):
    """One step with free R, Q, T and P.

    P = 0 is the first step, so that one graph does both. Q may differ from R, so that a prompt that
    all beams share runs as one row, and the next step spreads its cache.
    """

    name = "decoder"

    def __init__(self, blip: Blip) -> None:
        super().__init__()
        self.text_decoder = blip.decoder
        layers = cache_layers(blip)
        self._layers = len(layers)
        self.inputs = {
            "input_ids": Port(("R", "T"), "int32"),
            "beam_idx": Port(("R",), "int32"),
            **_past_ports("past", layers, ("Q", "P")),
            **_cross_ports(layers, blip.config.vision_config.num_tokens),
        }
        self.outputs = {
            "logits": Port(("R", blip.config.text_config.vocab_size), "float32"),
            **_past_ports("present", layers, ("R", "P + T")),
        }

    def forward(self, input_ids: Tensor, beam_idx: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """Logits (R, V) after the last token, then present_key_i and present_value_i in turn.

        Args:
            input_ids: (R, T) tokens to append.
            beam_idx: (R,) the row of the past that each row continues.
            caches: past_key_i, past_value_i (Q, H, P, K) of each layer in turn, then cross_key_i
                (1, H, K, N), cross_value_i (1, H, N, K) of each layer in turn.
        """
        past, cross = _split(caches, self._layers)
        past = [(k.index_select(0, beam_idx), v.index_select(0, beam_idx)) for k, v in past]
        mask = causal_mask(input_ids.shape[1], past[0][0].shape[2], input_ids.device)
        bert = self.text_decoder.bert
        hidden, present = bert(input_ids, mask, [Cross(*pair) for pair in cross], past)
        logits = self.text_decoder.logits(hidden[:, -1])
        return (logits, *(tensor for pair in present for tensor in pair))


class StaticDecoderGraph(Graph):
    """One step of one token with every size fixed, as Core ML's Neural Engine wants it.

    The cache has C places from the beginning. The new token is written to place `position` by a
    one-hot product, because a write to a place known at run time is not available there.
    """

    name = "decoder"

    def __init__(self, blip: Blip, *, rows: int, length: int) -> None:
        super().__init__()
        self.text_decoder = blip.decoder
        layers = cache_layers(blip)
        self._layers, self.rows, self.length = len(layers), rows, length
        self.inputs = {
            "input_ids": Port((rows, 1), "int32"),
            "position": Port((1,), "int32"),
            "beam_idx": Port((rows,), "int32"),
            **_past_ports("past", layers, (rows, length)),
            **_cross_ports(layers, blip.config.vision_config.num_tokens),
        }
        self.outputs = {
            "logits": Port((rows, blip.config.text_config.vocab_size), "float32"),
            **_past_ports("present", layers, (rows, length)),
        }

    def forward(
        self, input_ids: Tensor, position: Tensor, beam_idx: Tensor, *caches: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits (R, V), then the whole caches present_key_i, present_value_i (R, H, C, K).

        Args:
            input_ids: (R, 1) the token to append.
            position: (1,) its place.
            beam_idx: (R,) the row of the past that each row continues.
            caches: as in `DecoderGraph`; places from `position` on are not looked at.
        """
        past, cross = _split(caches, self._layers)
        bert = self.text_decoder.bert
        table = bert.embeddings
        x = table.LayerNorm(table.word_embeddings(input_ids) + table.position_embeddings(position))
        places = torch.arange(self.length, dtype=torch.int32)
        here = (places == position).to(x.dtype)[None, None, :, None]  # (1, 1, C, 1)
        mask = torch.where(places <= position, 0.0, MASKED)[None, None, None, :]  # (1, 1, 1, C)
        present: list[Tensor] = []
        layers: Iterable[Any] = bert.encoder.layer
        for layer, (key, value), pair in zip(layers, past, cross, strict=True):
            attention = layer.attention
            q, k, v = (
                project(x).unflatten(-1, (attention.heads, attention.head_width)).transpose(1, 2)
                for project in (attention.self.query, attention.self.key, attention.self.value)
            )  # (R, H, 1, K)
            key = key.index_select(0, beam_idx) * (1 - here) + k * here
            value = value.index_select(0, beam_idx) * (1 - here) + v * here
            present += [key, value]
            scores = (q * attention.head_width**-0.5) @ key.transpose(2, 3) + mask  # (R, H, 1, C)
            y = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
            x = layer.crossattention(attention.output(y, x), Cross(*pair))
            x = layer.output(F.gelu(layer.intermediate.dense(x)), x)
        return (self.text_decoder.logits(x[:, -1]), *present)


_Pairs = list[tuple[Tensor, Tensor]]


def _split(caches: tuple[Tensor, ...], layers: int) -> tuple[_Pairs, _Pairs]:
    pairs = list(zip(caches[::2], caches[1::2], strict=True))
    return pairs[:layers], pairs[layers:]


def _past_ports(
    prefix: str, layers: list[LayerCache], sizes: tuple[int | str, int | str]
) -> dict[str, Port]:
    rows, length = sizes
    return {
        f"{prefix}_{what}_{i}": Port((rows, layer.self_heads, length, layer.head_dim), "float32")
        for i, layer in enumerate(layers)
        for what in ("key", "value")
    }


def _cross_ports(layers: list[LayerCache], tokens: int) -> dict[str, Port]:
    ports = {}
    for i, layer in enumerate(layers):
        heads, width = layer.cross_heads, layer.head_dim
        ports[f"cross_key_{i}"] = Port((1, heads, width, tokens), "float32")
        ports[f"cross_value_{i}"] = Port((1, heads, tokens, width), "float32")
    return ports
