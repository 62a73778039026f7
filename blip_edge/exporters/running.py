"""One graph of a bundle run by itself, all outputs seen; and what it computes in.

Engines keep caches to themselves, and rightly. Here each graph is opened alone, to compare every
output with torch, and to count which multiplications really run in 8 bits: what a file asks for
and what a runtime makes of it are two things.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_edge.errors import import_extra
from blip_edge.runtime.engine import F32
from blip_edge.runtime.manifest import Graph, Target

__all__ = ["Operators", "count_operators", "run_graph"]

Feeds = Mapping[str, NDArray[Any]]

# Sizes that free axes get where only the kind of work matters.
_SIZES = {"R": 2, "Q": 2, "T": 2, "P": 2}
_ORT_INT8 = frozenset(
    {"DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "QLinearMatMul"}
)
_ORT_FLOAT = frozenset({"Conv", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul"})
_OPENVINO_PRODUCTS = frozenset({"Convolution", "FullyConnected", "MatMul"})
_MIL_PRODUCTS = frozenset({"conv", "linear", "matmul"})


@dataclass(frozen=True)
class Operators:
    """What a graph runs, after its runtime optimised it."""

    int8: int
    """Matrix products in 8 bits (Core ML: with 8-bit weights)."""
    float: int
    """Matrix products in floating point, attention's included."""
    by_type: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """As manifest.json has it."""
        return {"int8": self.int8, "float": self.float, "by_type": self.by_type}


def run_graph(target: Target, graph: Graph, feeds: Feeds) -> dict[str, F32]:
    """Every output of one graph, by name."""
    return _RUNNERS[target](graph, feeds)


def count_operators(target: Target, graph: Graph) -> Operators:
    """Count the operators of one graph as its runtime executes it."""
    return _COUNTERS[target](graph)


def _feeds(graph: Graph) -> dict[str, NDArray[Any]]:
    feeds = {}
    for name, port in graph.inputs.items():
        shape = [_SIZES[size] if isinstance(size, str) else size for size in port.shape]
        feeds[name] = np.zeros(shape, dtype=port.dtype)
    return feeds


def _run_onnx(graph: Graph, feeds: Feeds) -> dict[str, F32]:
    runtime = import_extra("onnxruntime", "onnx")
    session = runtime.InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
    return dict(zip(graph.outputs, session.run(list(graph.outputs), dict(feeds)), strict=True))


def _count_onnx(graph: Graph) -> Operators:
    """From a profiled run: it names the kernels, and needs no package but the runtime."""
    runtime = import_extra("onnxruntime", "onnx")
    with TemporaryDirectory() as scratch:
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = runtime.InferenceSession(
            str(graph.path), options, providers=["CPUExecutionProvider"]
        )
        session.run(None, _feeds(graph))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = {
        event["name"]: event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    }
    types = Counter(kernels.values())
    return Operators(_total(types, _ORT_INT8), _total(types, _ORT_FLOAT), _sorted(types))


def _total(types: Counter[str], names: frozenset[str]) -> int:
    return sum(count for name, count in types.items() if name in names)


def _sorted(types: Counter[str]) -> dict[str, int]:
    return dict(sorted(types.items(), key=lambda item: (-item[1], item[0])))


def _compile_openvino(graph: Graph) -> Any:
    openvino = import_extra("openvino", "openvino")
    # As the engine compiles: see runtime.openvino.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "SNIPPETS_MODE": "DISABLE"}
    return openvino.Core().compile_model(str(graph.path), "CPU", settings)


def _run_openvino(graph: Graph, feeds: Feeds) -> dict[str, F32]:
    result = _compile_openvino(graph)(dict(feeds))
    return {name: np.array(result[name]) for name in graph.outputs}


def _count_openvino(graph: Graph) -> Operators:
    types: Counter[str] = Counter()
    int8 = floats = 0
    for operator in _compile_openvino(graph).get_runtime_model().get_ops():
        info = operator.get_rt_info()
        kind, precision = _text(info["layerType"]), _text(info["runtimePrecision"])
        types[f"{kind}.{precision}"] += 1
        if kind in _OPENVINO_PRODUCTS:
            int8 += precision in ("i8", "u8")
            floats += precision not in ("i8", "u8")
    return Operators(int8, floats, _sorted(types))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value.astype(str))


_RUNNERS: dict[Target, Callable[[Graph, Feeds], dict[str, F32]]] = {
    "onnx": _run_onnx,
    "openvino": _run_openvino,
}
_COUNTERS: dict[Target, Callable[[Graph], Operators]] = {
    "onnx": _count_onnx,
    "openvino": _count_openvino,
}
