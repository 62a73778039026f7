"""The decoder with every size fixed, as Core ML's Neural Engine wants it."""

# R rows = B x beams · N tokens that cross-attention reads · V vocabulary · H heads
# K width of a head · C length of the cache

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from blip_edge.exporters.graphs.graph import (
    Graph,
    cache_layers,
    cross_ports,
    paired,
    projections,
)
from blip_edge.models.attention import MASKED, Cross
from blip_edge.models.blip import Blip
from blip_edge.runtime.manifest import LayerCache, Port

__all__ = ["StaticDecoderGraph"]


class StaticDecoderGraph(Graph):
    """One step of one token with every size fixed, as Core ML's Neural Engine wants it.

    The cache has C places from the beginning. The new token is written to place `position` by a
    one-hot product, because a write to a place known at run time is not available there.
    """

    name = "decoder"

    def __init__(self, blip: Blip, *, rows: int, length: int) -> None:
        super().__init__(blip, ["text_decoder"], [blip.decoder], projections(blip.decoder.bert))
        layers = cache_layers(blip)
        self.rows, self.length = rows, length
        self.inputs = {
            "input_ids": Port((rows, 1), "int32"),
            "position": Port((1,), "int32"),
            "beam_idx": Port((rows,), "int32"),
            **_past_ports("past", layers, rows, length),
            **cross_ports(blip.config.text_config, "cross", blip.config.vision_config.num_tokens),
        }
        self.outputs = {
            "logits": Port((rows, blip.config.text_config.vocab_size), "float32"),
            **_past_ports("present", layers, rows, length),
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
        pairs = paired(caches)
        past, cross = pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]
        bert = self.decoder.bert
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
        return (self.decoder.logits(x[:, -1]), *present)


def _past_ports(prefix: str, layers: list[LayerCache], rows: int, length: int) -> dict[str, Port]:
    return {
        f"{prefix}_{what}_{i}": Port((rows, layer.self_heads, length, layer.head_dim), "float32")
        for i, layer in enumerate(layers)
        for what in ("key", "value")
    }
