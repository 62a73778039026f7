"""Inputs to compare a graph with: of other sizes than it was traced with, padding among them."""

# R rows · T text tokens · P past tokens

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blip_edge.exporters.graphs import (
    Graph,
    ImageVisionGraph,
    StatefulDecoderGraph,
    StaticDecoderGraph,
)
from blip_edge.runtime.coreml import picture_bytes
from blip_edge.runtime.engine import F32

__all__ = ["Feeding"]

_SIZES = {"R": 3, "Q": 3, "T": 6, "P": 0}
_ROWS_TOKENS, _STEPS = (3, 2), 3  # of a decoder, at a time and in all


class Feeding:
    """Graphs in their order, each fed with what the ones before it have made."""

    def __init__(self, pixel_values: F32, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._random = np.random.default_rng(0)
        self._known: dict[str, F32] = {"pixel_values": pixel_values}

    def of(self, graph: Graph) -> dict[str, NDArray[Any]]:
        """Inputs of `graph`; a decoder's are those of a step in the middle of a text.

        One that keeps its cache as state is compared at the first step.
        """
        if isinstance(graph, ImageVisionGraph):
            pictures = picture_bytes(graph.preprocess, self._known["pixel_values"])
            return {name: one[None] for name, one in zip(graph.inputs, pictures, strict=True)}
        if "beam_idx" in graph.inputs:
            return self._step(graph)
        return {
            name: self._known[name] if port.dtype == "float32" else self._texts(name, port.shape)
            for name, port in graph.inputs.items()
        }

    @torch.inference_mode()
    def answered(self, graph: Graph, feeds: dict[str, NDArray[Any]]) -> dict[str, F32]:
        """What torch makes of `feeds`; kept for the graphs that follow."""
        outputs = graph(*(torch.from_numpy(feeds[name]) for name in graph.inputs))
        made = {name: out.numpy() for name, out in zip(graph.outputs, outputs, strict=True)}
        # What an answer's decoder calls cross is the question's, not the picture's.
        self._known |= {name.replace("question_", "cross_"): value for name, value in made.items()}
        return made

    def _texts(self, name: str, shape: tuple[int | str, ...]) -> NDArray[np.int32]:
        rows, tokens = (size if isinstance(size, int) else _SIZES[size] for size in shape)
        if name == "input_ids":
            return self._drawn(self._vocabulary, (rows, tokens))
        lengths = np.arange(tokens, tokens - rows, -1)[:, None]
        return (np.arange(tokens)[None, :] < lengths).astype(np.int32)

    def _step(self, graph: Graph) -> dict[str, NDArray[Any]]:
        static = isinstance(graph, StaticDecoderGraph)
        rows, tokens = (graph.rows, 1) if isinstance(graph, StaticDecoderGraph) else _ROWS_TOKENS
        feeds: dict[str, NDArray[Any]] = {
            name: np.zeros([s if isinstance(s, int) else _SIZES[s] for s in port.shape], np.float32)
            if name.startswith("past_")
            else self._known[name]
            for name, port in graph.inputs.items()
            if port.dtype == "float32"
        }
        known = dict(self._known)
        for step in range(1 if isinstance(graph, StatefulDecoderGraph) else _STEPS):
            if step:
                done = self.answered(graph, feeds)
                feeds |= {n: done[n.replace("past", "present")] for n in feeds if "past_" in n}
            feeds["input_ids"] = self._random.integers(
                0, self._vocabulary, (rows, tokens), np.int32
            )
            feeds["beam_idx"] = self._random.integers(0, rows, rows, dtype=np.int32)
            if static:
                feeds["position"] = np.array([step], dtype=np.int32)
        self._known = known
        return feeds

    def _drawn(self, below: int, shape: tuple[int, ...]) -> NDArray[np.int32]:
        return self._random.integers(0, below, shape, dtype=np.int32)
