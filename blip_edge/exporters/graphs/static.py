"""Graphs with every size fixed, as Core ML's Neural Engine wants them."""

# R rows = B x beams · T text tokens, padding included · N tokens that cross-attention reads
# V vocabulary · H heads · K width of a head · C length of the cache

from collections.abc import Iterable, Mapping
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
from blip_edge.exporters.graphs.texts import QuestionGraph
from blip_edge.models.attention import MASKED, Cross, padding_mask
from blip_edge.models.blip import Blip
from blip_edge.runtime.manifest import LayerCache, Port

__all__ = ["StatefulDecoderGraph", "StaticDecoderGraph", "StaticQuestionGraph", "fixed"]


def fixed(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """`graph`, its free sizes of these names bound from now on."""
    for ports in (graph.inputs, graph.outputs):
        for name, port in ports.items():
            shape = tuple(sizes.get(s, s) if isinstance(s, str) else s for s in port.shape)
            ports[name] = Port(shape, port.dtype)
    return graph


class StaticQuestionGraph(QuestionGraph):
    """A question that is padded to T tokens, and the mask that its answer's decoder needs then."""

    def __init__(self, blip: Blip, *, length: int) -> None:
        super().__init__(blip)
        self.outputs["question_mask"] = _mask_port("T")
        fixed(self, {"T": length})

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, *cross: Tensor
    ) -> tuple[Tensor, ...]:
        """What `QuestionGraph` gives, and the additive question_mask (1, 1, 1, T)."""
        read = super().forward(input_ids, attention_mask, *cross)
        return (*read, padding_mask(attention_mask))


class StaticDecoderGraph(Graph):
    """One step of one token.

    The cache has C places from the beginning. The new token is written to place `position` by a
    one-hot product, because a write to a place known at run time is not available there. Questions
    that it reads are padded to `question` tokens, and come with a mask.
    """

    name = "decoder"

    def __init__(self, blip: Blip, *, rows: int, length: int, question: int = 0) -> None:
        super().__init__(blip, ["text_decoder"], [blip.decoder], projections(blip.decoder.bert))
        layers = cache_layers(blip)
        self.rows, self.length = rows, length
        captions = blip.config.captions
        tokens = blip.config.vision_config.num_output_tokens if captions else question
        self.inputs = {
            "input_ids": Port((rows, 1), "int32"),
            "position": Port((1,), "int32"),
            "beam_idx": Port((rows,), "int32"),
            **_past_ports("past", layers, rows, length),
            **cross_ports(blip.config.text_config, "cross", tokens),
            **({} if captions else {"cross_mask": _mask_port(tokens)}),
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
            caches: as in `DecoderGraph`, places from `position` on are not looked at; then
                cross_mask (1, 1, 1, N), additive, where questions are read.
        """
        mask_at = len(caches) // 4 * 4
        pairs, cross_mask = paired(caches[:mask_at]), (*caches[mask_at:], None)[0]
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
            x = layer.crossattention(attention.output(y, x), Cross(*pair, cross_mask))
            x = layer.output(F.gelu(layer.intermediate.dense(x)), x)
        return (self.decoder.logits(x[:, -1]), *present)


class StatefulDecoderGraph(StaticDecoderGraph):
    """The same with the cache as state, which stays on the device (Core ML from iOS 18 on).

    Rows change places in the graph, so that beams need nothing of their caller but `beam_idx`.
    """

    def __init__(self, blip: Blip, *, rows: int, length: int, question: int = 0) -> None:
        super().__init__(blip, rows=rows, length=length, question=question)
        self.states = {
            name: Port(self.inputs.pop(name).shape, "float16")
            for name in list(self.inputs)
            if name.startswith("past_")
        }
        self.outputs = {"logits": self.outputs["logits"]}
        for name, port in self.states.items():
            self.register_buffer(name, torch.zeros(port.shape))  # type: ignore[arg-type]
        self.notes = (
            f"decoder keeps its cache as state, in half precision: {', '.join(self.states)}.",
        )

    def forward(
        self, input_ids: Tensor, position: Tensor, beam_idx: Tensor, *cross: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits (R, V)."""
        caches = [self.get_buffer(name) for name in self.states]
        logits, *present = super().forward(input_ids, position, beam_idx, *caches, *cross)
        for cache, value in zip(caches, present, strict=True):
            cache[:] = value  # coremltools knows a write into a slice, and no other copy
        return (logits,)


def _mask_port(tokens: int | str) -> Port:
    return Port((1, 1, 1, tokens), "float32")


def _past_ports(prefix: str, layers: list[LayerCache], rows: int, length: int) -> dict[str, Port]:
    return {
        f"{prefix}_{what}_{i}": Port((rows, layer.self_heads, length, layer.head_dim), "float32")
        for i, layer in enumerate(layers)
        for what in ("key", "value")
    }
