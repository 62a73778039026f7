"""Bundles of OpenVINO graphs, on its CPU plugin.

Two requests of the decoder take turns: what one has written as its cache is, uncopied, what the
other reads, and nothing is written where something is still read.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from blip_edge.errors import ArtifactError, import_extra
from blip_edge.runtime.engine import F32, I32, Session
from blip_edge.runtime.graph_engine import GraphEngine, Values
from blip_edge.runtime.manifest import Graph, LayerCache, Manifest
from blip_edge.runtime.prefill import SharedPrompt, empty_cache, shares_prompt
from blip_edge.runtime.room import Room

__all__ = ["OpenVinoEngine", "OpenVinoRunner", "compiled", "opener"]

_AMX_ROW, _AMX_WIDE = 32, 512
_INTEGERS = frozenset({"i4", "i8", "u4", "u8"})
_FROM_INTEGERS = frozenset({"Convert", "Multiply", "Reshape", "Subtract"})
"""What makes numbers of integers, one after another."""


class OpenVinoEngine(GraphEngine):
    """A BLIP on OpenVINO's CPU plugin.

    Args:
        manifest: of a bundle exported for OpenVINO.
        threads: how many it may use; its own choice when not given.
        precision: what floating-point layers compute in: "f32", or "bf16", which is faster and less
            exact. When not given it is "bf16" where the processor has it in the graphs of an int8
            bundle, but for the decoder, and for graphs whose integer weights it would undo.
    """

    def __init__(
        self, manifest: Manifest, *, threads: int | None = None, precision: str | None = None
    ) -> None:
        super().__init__(
            manifest,
            opener(manifest.precision, threads=threads, computes_in=precision),
            lambda tensor: np.array(tensor.data),  # the request writes there again
        )
        self._layers = manifest.cache.layers
        self._decoders: tuple[Any, Any] | None = None

    def start(self, cross: Values, rows: int) -> Session:
        """Begin a search of `rows` rows, all of the one picture or question."""
        graph = self._manifest.graph("decoder")
        if shares_prompt(graph) and rows > 1:
            return SharedPrompt(self.start(cross, 1), rows)
        if self._decoders is None:
            decoder = self.runner("decoder").compiled
            self._decoders = (decoder.create_infer_request(), decoder.create_infer_request())
        read = {name: cross[name] for name in graph.inputs if name in cross}
        tensor = import_extra("openvino", "openvino").Tensor
        session = _OpenVinoSession(tensor, self._decoders, read, self._layers, rows)
        return Room(session, self.max_tokens)


def opener(
    beside: str, *, threads: int | None = None, computes_in: str | None = None
) -> Callable[[Graph], "OpenVinoRunner"]:
    """What opens graphs, OpenVINO's own and ONNX files alike.

    Args:
        beside: the bundle's precision.
        threads: how many the plugin may use; its own choice when not given.
        computes_in: the `precision` of `compiled`.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    openvino = import_extra("openvino", "openvino")
    core = openvino.Core()
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads

    def opened(graph: Graph) -> OpenVinoRunner:
        model = compiled(core, graph, settings, beside=beside, precision=computes_in)
        return OpenVinoRunner(openvino, model, graph)

    return opened


class OpenVinoRunner:
    """A graph that is open; what it gives it overwrites when it is run again."""

    def __init__(self, openvino: Any, model: Any, graph: Graph) -> None:
        self._openvino = openvino
        self.compiled = model
        self.request = self.compiled.create_infer_request()
        self._outputs = tuple(graph.outputs)

    def __call__(self, feeds: Mapping[str, Any]) -> Values:
        for name, value in feeds.items():
            if isinstance(value, np.ndarray):
                value = self._openvino.Tensor(value, shared_memory=True)
            self.request.set_tensor(name, value)
        self.request.infer()
        return {name: self.request.get_tensor(name) for name in self._outputs}


class _OpenVinoSession:
    def __init__(
        self,
        tensor: Any,
        requests: tuple[Any, Any],
        cross: Values,
        layers: tuple[LayerCache, ...],
        rows: int,
    ) -> None:
        self._tensor = tensor
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


def compiled(
    core: Any, graph: Graph, settings: dict[str, Any], *, beside: str, precision: str | None = None
) -> Any:
    """The graph ready to run.

    Args:
        core: OpenVINO's.
        graph: of a bundle.
        settings: of the plugin.
        beside: the bundle's precision.
        precision: what floating-point layers compute in, as `OpenVinoEngine` has it.

    Raises:
        ArtifactError: OpenVINO cannot read it.
    """
    decodes = any(name.startswith("past_") for name in graph.inputs)
    try:
        model = core.read_model(str(graph.path))
    except RuntimeError as error:
        raise _unreadable(graph, error) from None
    if precision is None:
        can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        # A decoding step waits for its weights: it gains nothing, and loses exactness.
        half = beside == "int8" and not decodes and "BF16" in can and not _too_narrow(model)
        precision = "bf16" if half else "f32"
    settings = {**settings, "INFERENCE_PRECISION_HINT": precision}
    if decodes:
        # The plugin's code generator gives wrong logits beyond 16 cached tokens when the cache's
        # length is free (seen in 2026.4, in float32 too).
        settings["SNIPPETS_MODE"] = "DISABLE"
    try:
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise _unreadable(graph, error) from None


def _too_narrow(model: Any) -> bool:
    """Whether bfloat16 would undo integer weights of a layer whose inputs are floats.

    On processors with AMX the plugin multiplies by integers only from some widths on, and turns
    those of narrower layers into bfloat16 when it opens them.
    Source: openvino/src/plugins/intel_cpu/src/nodes/fullyconnected.cpp.
    """
    products = (node for node in model.get_ops() if node.get_type_name() == "MatMul")
    return any(_undone(*size) for node in products if (size := _integer_weights(node)) is not None)


def _undone(outputs: int, inputs: int) -> bool:
    both_small = max(inputs, outputs) <= _AMX_ROW
    return both_small or (max(inputs, outputs) <= _AMX_WIDE and inputs % _AMX_ROW != 0)


def _integer_weights(product: Any) -> tuple[int, int] | None:
    """Outputs and inputs of a layer of floats and integer weights; None of other products."""
    given, weight = (_source(product.input_value(side).get_node()) for side in (0, 1))
    if weight.get_type_name() != "Constant" or given.get_type_name() == "FakeQuantize":
        return None
    if weight.get_element_type().get_type_name() not in _INTEGERS:
        return None
    *_, inputs, outputs = product.get_input_shape(1)
    turned = product.get_attributes()["transpose_b"]
    return (inputs, outputs) if turned else (outputs, inputs)


def _source(node: Any) -> Any:
    """What a number was before it was made out of integers; else the node itself, or near it."""
    while node.get_type_name() in _FROM_INTEGERS:
        node = node.input_value(0).get_node()
    return node


def _unreadable(graph: Graph, error: RuntimeError) -> ArtifactError:
    reason = str(error).strip().splitlines()[-1]
    return ArtifactError(f"{graph.path}: OpenVINO cannot open it: {reason}")
