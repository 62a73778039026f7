"""Bundles of ONNX graphs on ONNX Runtime.

Everything large stays where the runtime put it: the vision graph's keys and values become inputs
of the decoder as they are, and each step's cache is the next step's input. Only token ids and
logits pass through Python.
"""

from typing import Any

import numpy as np

from blip_edge.errors import ArtifactError, import_extra
from blip_edge.runtime.engine import F32, I32, Session, Task
from blip_edge.runtime.manifest import Graph, LayerCache, Manifest
from blip_edge.runtime.prefill import SharedPrompt, empty_cache, shares_prompt

__all__ = ["OnnxEngine"]

# R rows · T text tokens · P past tokens · K head width · V vocabulary


class OnnxEngine:
    """A captioner on ONNX Runtime's CPU kernels."""

    tasks: tuple[Task, ...] = ("caption",)
    max_images = 1

    def __init__(self, manifest: Manifest, *, threads: int | None = None) -> None:
        self._runtime = import_extra("onnxruntime", "onnx")
        self._vision = _session(self._runtime, manifest.graph("vision"), threads)
        self._decoder = _session(self._runtime, manifest.graph("decoder"), threads)
        self._vision_outputs = tuple(manifest.graph("vision").outputs)
        self._layers = manifest.cache.layers
        self._shares_prompt = shares_prompt(manifest.graph("decoder"))

    def encode(self, pixel_values: F32) -> dict[str, Any]:
        """(1, 3, S, S) pixels to cross-attention keys and values by name."""
        binding = self._vision.io_binding()
        binding.bind_cpu_input("pixel_values", np.ascontiguousarray(pixel_values))
        for name in self._vision_outputs:
            binding.bind_output(name, "cpu")
        self._vision.run_with_iobinding(binding)
        return dict(zip(self._vision_outputs, binding.get_outputs(), strict=True))

    def start(self, cross: dict[str, Any], rows: int) -> Session:
        """Begin a search of `rows` rows, all of the one picture."""
        if self._shares_prompt and rows > 1:
            return SharedPrompt(self.start(cross, 1), rows)
        return _OnnxSession(self._runtime, self._decoder, cross, self._layers, rows)


class _OnnxSession:
    def __init__(
        self,
        runtime: Any,
        decoder: Any,
        cross: dict[str, Any],
        layers: tuple[LayerCache, ...],
        rows: int,
    ) -> None:
        self._decoder = decoder
        self._binding = decoder.io_binding()
        for name, value in cross.items():
            self._binding.bind_ortvalue_input(name, value)
        self._past = {
            name: runtime.OrtValue.ortvalue_from_numpy(empty)
            for name, empty in empty_cache(layers, rows).items()
        }

    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        binding = self._binding
        binding.bind_cpu_input("input_ids", np.ascontiguousarray(input_ids))
        binding.bind_cpu_input("beam_idx", np.ascontiguousarray(beam_idx))
        for name, value in self._past.items():
            binding.bind_ortvalue_input(name, value)
        # Bound anew at each step: an output that stays bound keeps the last step's buffer, which
        # is this step's input.
        binding.clear_binding_outputs()
        binding.bind_output("logits", "cpu")
        for name in self._past:
            binding.bind_output(name.replace("past", "present"), "cpu")
        self._decoder.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        self._past = dict(zip(self._past, present, strict=True))
        values: F32 = logits.numpy()
        return values


def _session(runtime: Any, graph: Graph, threads: int | None) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # its warnings are for whoever made the graph
    options.intra_op_num_threads = threads or 0
    # The two graphs have a pool of threads each; one that spins after its run takes the cores
    # from the other.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    state = runtime.capi.onnxruntime_pybind11_state
    try:
        return runtime.InferenceSession(
            str(graph.path), options, providers=["CPUExecutionProvider"]
        )
    except (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{graph.path}: ONNX Runtime cannot open it: {reason}") from None
