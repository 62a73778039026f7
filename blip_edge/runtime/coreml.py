"""Bundles of Core ML programs: by Core ML on a Mac, by the evaluator in `mil` elsewhere.

The decoder has fixed sizes, as the Neural Engine wants it: R rows, one token, a cache of C places.
The prompt goes in token by token, and rows that the search does not use are fed along.
"""

import sys
from pathlib import Path

import numpy as np

from blip_edge.errors import ArtifactError, UsageError, import_extra
from blip_edge.runtime.engine import F32, I32
from blip_edge.runtime.graph_engine import GraphEngine, Runner, Values
from blip_edge.runtime.manifest import LayerCache, Manifest, StaticCache
from blip_edge.runtime.mil import MilProgram

__all__ = ["CoreMLEngine"]

# R rows that the search uses · C places of the cache · K head width · V vocabulary


class CoreMLEngine(GraphEngine):
    """A BLIP on Core ML."""

    def __init__(self, manifest: Manifest) -> None:
        if "decoder" in manifest.graphs and manifest.cache.static is None:
            raise ArtifactError(
                f"{manifest.folder}/manifest.json gives a Core ML decoder no fixed sizes; "
                "export the model again"
            )
        super().__init__(manifest, lambda graph: _program(graph.path))
        self._static = manifest.cache.static or StaticCache(0, 0)
        self._layers = manifest.cache.layers

    @property
    def simulated(self) -> bool:
        """Whether numpy stands in for Core ML, so that results count and latency does not."""
        return isinstance(self.runner("vision"), MilProgram)

    @property
    def max_rows(self) -> int:
        """Rows that the decoder was exported for."""
        return self._static.rows

    @property
    def max_length(self) -> int:
        """Tokens that the decoder's cache holds."""
        return self._static.length

    def start(self, cross: Values, rows: int) -> "_CoreMLSession":
        """Begin a search of `rows` rows, all of the one picture.

        Raises:
            UsageError: more rows than the decoder was exported for.
        """
        if rows > self._static.rows:
            raise UsageError(f"this bundle has {self._static.rows} rows, not {rows}")
        inputs = self._manifest.graph("decoder").inputs
        read = {name: cross[name] for name in inputs if name in cross}
        return _CoreMLSession(self.runner("decoder"), read, self._layers, self._static, rows)


class _CoreMLSession:
    def __init__(
        self,
        decoder: Runner,
        cross: Values,
        layers: tuple[LayerCache, ...],
        static: StaticCache,
        rows: int,
    ) -> None:
        self._decoder = decoder
        self._cross = cross
        self._static = static
        self._rows = rows
        self._position = 0
        self._past = {
            f"past_{kind}_{number}": np.zeros(
                (static.rows, layer.self_heads, static.length, layer.head_dim), dtype=np.float32
            )
            for number, layer in enumerate(layers)
            for kind in ("key", "value")
        }

    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        if self._position + input_ids.shape[1] > self._static.length:
            raise UsageError(f"this bundle's cache holds {self._static.length} tokens, not more")
        own = np.arange(self._static.rows, dtype=np.int32)
        order = own.copy()
        order[: self._rows] = beam_idx
        logits = np.empty((0, 0), dtype=np.float32)
        for column in input_ids.T:
            logits = self._token(column, order)
            order = own  # reordered once, then every row goes on from itself
        return logits[: self._rows]

    def _token(self, tokens: I32, order: I32) -> F32:
        ids = np.zeros((self._static.rows, 1), dtype=np.int32)
        ids[: self._rows, 0] = tokens
        outputs = self._decoder(
            {
                "input_ids": ids,
                "position": np.asarray([self._position], dtype=np.int32),
                "beam_idx": order,
                **self._past,
                **self._cross,
            }
        )
        self._position += 1
        self._past = {name: outputs[name.replace("past", "present")] for name in self._past}
        logits: F32 = outputs["logits"]
        return logits


def _program(path: Path) -> Runner:
    if sys.platform != "darwin":
        return MilProgram(path)
    predict: Runner = import_extra("coremltools", "coreml").models.MLModel(str(path)).predict
    return predict
