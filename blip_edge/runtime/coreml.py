"""Bundles of Core ML programs: by Core ML on a Mac, by the evaluator in `mil` elsewhere.

All sizes are fixed, as the Neural Engine wants them. The decoder has R rows, one token, a cache of
C places: the prompt goes in token by token, and rows that the search does not use are fed along.
Texts are padded, and read so many at a time.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.errors import ArtifactError, UsageError, import_extra
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.engine import F32, I32
from blip_edge.runtime.graph_engine import GraphEngine, Values
from blip_edge.runtime.manifest import Cache, Graph, Manifest, StaticCache
from blip_edge.runtime.mil import MilProgram

__all__ = ["CoreMLEngine", "picture_bytes"]

# R rows that the search uses, or texts · T text tokens · C places of the cache · K head width
# V vocabulary


class CoreMLEngine(GraphEngine):
    """A BLIP on Core ML."""

    def __init__(self, manifest: Manifest) -> None:
        if "decoder" in manifest.graphs and manifest.cache.static is None:
            raise ArtifactError(
                f"{manifest.folder}/manifest.json gives a Core ML decoder no fixed sizes; "
                "export the model again"
            )
        super().__init__(manifest, _program)
        self._static = manifest.cache.static or StaticCache(0, 0)
        lengths = [_size(graph, 1) for graph in manifest.graphs.values() if _reads_texts(graph)]
        self.max_tokens = min([self.max_tokens, *lengths])

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

    def encode(self, pixel_values: F32) -> Values:
        """(B, 3, S, S) pixels to keys and values; as bytes again where the graph takes those."""
        inputs = self._manifest.graph("vision").inputs
        if "pixel_values" in inputs:
            return super().encode(pixel_values)
        pictures = picture_bytes(self._manifest.preprocess, pixel_values)
        return self.run("vision", {n: one[None] for n, one in zip(inputs, pictures, strict=True)})

    def run(self, name: str, feeds: Mapping[str, Any]) -> Values:
        """Outputs of a graph; texts are padded to its sizes, and split where they are too many."""
        graph = self._manifest.graph(name)
        if not _reads_texts(graph):
            return super().run(name, feeds)
        some = _sized(feeds, rows=_size(graph, 0), length=_size(graph, 1))
        found = [super(CoreMLEngine, self).run(name, {**feeds, **one}) for one in some]
        texts = len(feeds["input_ids"])
        return {port: np.concatenate([one[port] for one in found])[:texts] for port in found[0]}

    def start(self, cross: Values, rows: int) -> "_CoreMLSession":
        """Begin a search of `rows` rows, all of the one picture.

        Raises:
            UsageError: more rows than the decoder was exported for.
        """
        if rows > self._static.rows:
            raise UsageError(f"this bundle has {self._static.rows} rows, not {rows}")
        inputs = self._manifest.graph("decoder").inputs
        read = {name: cross[name] for name in inputs if name in cross}
        past = _empty_cache(self._manifest.cache) if "past_key_0" in inputs else {}
        return _CoreMLSession(self.runner("decoder"), read, past, self._static, rows)


class _CoreMLSession:
    def __init__(
        self,
        decoder: "_Program",
        cross: Values,
        past: Values,
        static: StaticCache,
        rows: int,
    ) -> None:
        self._decoder = decoder
        self._cross = cross
        self._static = static
        self._rows = rows
        self._position = 0
        self._state = decoder.make_state()
        self._past = past

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
            },
            self._state,
        )
        self._position += 1
        self._past = {name: outputs[name.replace("past", "present")] for name in self._past}
        logits: F32 = outputs["logits"]
        return logits


def picture_bytes(preprocess: Preprocess, pixel_values: F32) -> NDArray[np.uint8]:
    """(B, 3, S, S) normalised pixels as the bytes that they were."""
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (preprocess.mean, preprocess.std))
    found: NDArray[np.uint8] = np.rint((pixel_values * std + mean) * 255).clip(0, 255).astype("u1")
    return found


def _reads_texts(graph: Graph) -> bool:
    return "attention_mask" in graph.inputs


def _size(graph: Graph, axis: int) -> int:
    return int(graph.inputs["input_ids"].shape[axis])


def _sized(feeds: Mapping[str, I32], *, rows: int, length: int) -> Iterator[dict[str, I32]]:
    """Texts of any number and (R, T) sizes as (rows, length) ones; the last text is repeated."""
    texts, tokens = feeds["input_ids"].shape
    if tokens > length:
        raise UsageError(f"this bundle reads texts of at most {length} tokens, not {tokens}")
    padding = ((0, -texts % rows), (0, 0)), ((0, 0), (0, length - tokens))
    padded = {
        name: np.pad(np.pad(feeds[name], padding[0], mode="edge"), padding[1])
        for name in ("input_ids", "attention_mask")
    }
    for first in range(0, texts, rows):
        yield {name: values[first : first + rows] for name, values in padded.items()}


def _empty_cache(cache: Cache) -> dict[str, F32]:
    """past_key_{i} and past_value_{i} of every layer, (R, H, C, K), still empty."""
    static = cache.static or StaticCache(0, 0)
    return {
        f"past_{kind}_{number}": np.zeros(
            (static.rows, layer.self_heads, static.length, layer.head_dim), dtype=np.float32
        )
        for number, layer in enumerate(cache.layers)
        for kind in ("key", "value")
    }


class _Program(Protocol):
    """A graph that is open: `MilProgram`, or Core ML itself."""

    def __call__(self, feeds: Mapping[str, Any], state: Any = None, /) -> Values: ...

    def make_state(self) -> Any:
        """What the program keeps from call to call, fresh; nothing where it keeps nothing."""
        ...


class _OnAMac:
    def __init__(self, graph: Graph) -> None:
        models = import_extra("coremltools", "coreml").models
        self._model = models.MLModel(str(graph.path), function_name=graph.function)
        whole = self._model.get_spec().description
        described = [one for one in whole.functions if one.name == graph.function] or [whole]
        self._keeps = bool(described[0].state)

    def __call__(self, feeds: Mapping[str, Any], state: Any = None, /) -> Values:
        given = {name: _as_picture(value) for name, value in feeds.items()}
        outputs: Values = self._model.predict(given, state)
        return outputs

    def make_state(self) -> Any:
        return self._model.make_state() if self._keeps else None


def _as_picture(value: Any) -> Any:
    """Bytes (1, 3, S, S) as a picture, which coremltools wants for image inputs."""
    return Image.fromarray(value[0].transpose(1, 2, 0)) if value.dtype == np.uint8 else value


def _program(graph: Graph) -> _Program:
    if sys.platform == "darwin":
        return _OnAMac(graph)
    return MilProgram(graph.path, graph.function)
