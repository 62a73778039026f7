"""Bundles of OpenVINO graphs, on its CPU plugin.

Two requests of the decoder take turns: what one has written as its cache is, uncopied, what the
other reads, and nothing is written where something is still read.
"""

from typing import Any

import numpy as np

from blip_edge.errors import ArtifactError, import_extra
from blip_edge.runtime.engine import F32, I32, Session, Task
from blip_edge.runtime.manifest import Graph, LayerCache, Manifest
from blip_edge.runtime.prefill import SharedPrompt, empty_cache, shares_prompt

__all__ = ["OpenVinoEngine"]


class OpenVinoEngine:
    """A captioner on OpenVINO's CPU plugin.

    Args:
        manifest: of a bundle exported for OpenVINO.
        threads: how many it may use; its own choice when not given.
        precision: what floating-point layers compute in: "f32", or "bf16" where the processor
            has it, which is faster and less exact.
    """

    tasks: tuple[Task, ...] = ("caption",)
    max_images = 1

    def __init__(
        self, manifest: Manifest, *, threads: int | None = None, precision: str = "f32"
    ) -> None:
        self._openvino = import_extra("openvino", "openvino")
        core = self._openvino.Core()
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            # The plugin's code generator gives wrong logits beyond 16 cached tokens when the
            # cache's length is free (seen in 2026.4, in float32 too).
            "SNIPPETS_MODE": "DISABLE",
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        vision = _compile(core, manifest.graph("vision"), settings)
        decoder = _compile(core, manifest.graph("decoder"), settings)
        self._vision = vision.create_infer_request()
        self._decoders = (decoder.create_infer_request(), decoder.create_infer_request())
        self._vision_outputs = tuple(manifest.graph("vision").outputs)
        self._layers = manifest.cache.layers
        self._shares_prompt = shares_prompt(manifest.graph("decoder"))

    def encode(self, pixel_values: F32) -> dict[str, Any]:
        """(1, 3, S, S) pixels to cross-attention keys and values by name.

        They live in the request's own buffers: the next `encode` overwrites them.
        """
        pixels = np.ascontiguousarray(pixel_values)
        self._vision.set_tensor("pixel_values", self._openvino.Tensor(pixels, shared_memory=True))
        self._vision.infer()
        return {name: self._vision.get_tensor(name) for name in self._vision_outputs}

    def start(self, cross: dict[str, Any], rows: int) -> Session:
        """Begin a search of `rows` rows, all of the one picture."""
        if self._shares_prompt and rows > 1:
            return SharedPrompt(self.start(cross, 1), rows)
        return _OpenVinoSession(self._openvino, self._decoders, cross, self._layers, rows)


class _OpenVinoSession:
    def __init__(
        self,
        openvino: Any,
        requests: tuple[Any, Any],
        cross: dict[str, Any],
        layers: tuple[LayerCache, ...],
        rows: int,
    ) -> None:
        self._tensor = openvino.Tensor
        self._now, self._next = requests
        for request in requests:
            for name, value in cross.items():
                request.set_tensor(name, value)
        self._past = {
            name: self._tensor(empty) for name, empty in empty_cache(layers, rows).items()
        }

    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        request = self._now
        request.set_tensor("input_ids", self._tensor(np.ascontiguousarray(input_ids)))
        request.set_tensor("beam_idx", self._tensor(np.ascontiguousarray(beam_idx)))
        for name, value in self._past.items():
            request.set_tensor(name, value)
        request.infer()
        self._past = {
            name: request.get_tensor(name.replace("past", "present")) for name in self._past
        }
        self._now, self._next = self._next, self._now
        logits: F32 = request.get_tensor("logits").data
        return logits


def _compile(core: Any, graph: Graph, settings: dict[str, Any]) -> Any:
    try:
        return core.compile_model(str(graph.path), "CPU", settings)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ArtifactError(f"{graph.path}: OpenVINO cannot open it: {reason}") from None
