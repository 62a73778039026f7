"""Bundles of ONNX graphs on ONNX Runtime.

Everything large stays where the runtime put it: the vision graph's keys and values become inputs
of the other graphs as they are, and each decoding step's cache is the next step's input. Only token
ids, logits and vectors pass through Python.

Where the manifest says so, the graphs that run once a picture or text are OpenVINO's to run: it
multiplies large matrices faster, and ONNX Runtime has the faster decoding step. Keys and values
pass from one to the other in place.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from blip_edge.errors import ArtifactError, import_extra
from blip_edge.runtime.engine import F32, I32, Session
from blip_edge.runtime.graph_engine import GraphEngine, Runner, Values
from blip_edge.runtime.manifest import Graph, LayerCache, Manifest
from blip_edge.runtime.openvino import opener
from blip_edge.runtime.prefill import SharedPrompt, empty_cache, shares_prompt
from blip_edge.runtime.room import Room

__all__ = ["OnnxEngine"]

# R rows · T text tokens · P past tokens · K head width · V vocabulary


class OnnxEngine(GraphEngine):
    """A BLIP on ONNX Runtime's CPU kernels, or but for its decoder on OpenVINO's."""

    def __init__(self, manifest: Manifest, *, threads: int | None = None) -> None:
        self._runtime = import_extra("onnxruntime", "onnx")
        elsewhere = (
            opener(manifest.precision, threads=threads) if "openvino" in manifest.engines else None
        )

        def opened(graph: Graph) -> Runner:
            if graph.engine is not None and elsewhere is not None:
                return elsewhere(graph)
            return _Runner(self._runtime, graph, threads)

        super().__init__(manifest, opened, _array)
        self._layers = manifest.cache.layers

    def start(self, cross: Values, rows: int) -> Session:
        """Begin a search of `rows` rows, all of the one picture or question."""
        graph = self._manifest.graph("decoder")
        if shares_prompt(graph) and rows > 1:
            return SharedPrompt(self.start(cross, 1), rows)
        read = {name: self._own(cross[name]) for name in graph.inputs if name in cross}
        decoder = self.runner("decoder").session
        session = _OnnxSession(self._runtime, decoder, read, self._layers, rows)
        return Room(session, self.max_tokens)

    def _own(self, value: Any) -> Any:
        """A tensor of OpenVINO as one of ONNX Runtime, in the same memory."""
        return self._runtime.OrtValue.ortvalue_from_numpy(value.data) if _other(value) else value


def _other(value: Any) -> bool:
    return hasattr(value, "data")  # as an OrtValue has not


def _array(value: Any) -> F32:
    # OpenVINO writes there again, and what ONNX Runtime gives is a copy.
    array: F32 = np.array(value.data) if _other(value) else value.numpy()
    return array


class _Runner:
    def __init__(self, runtime: Any, graph: Graph, threads: int | None) -> None:
        self.session = _session(runtime, graph, threads)
        self._outputs = tuple(graph.outputs)

    def __call__(self, feeds: Mapping[str, Any]) -> Values:
        binding = self.session.io_binding()
        for name, value in feeds.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            else:
                binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        self.session.run_with_iobinding(binding)
        return dict(zip(self._outputs, binding.get_outputs(), strict=True))


class _OnnxSession:
    def __init__(
        self,
        runtime: Any,
        decoder: Any,
        cross: Values,
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
    # Every graph has a pool of threads; one that spins after its run takes the cores from the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    state = runtime.capi.onnxruntime_pybind11_state
    try:
        return runtime.InferenceSession(
            str(graph.path), options, providers=["CPUExecutionProvider"]
        )
    except (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{graph.path}: ONNX Runtime cannot open it: {reason}") from None
