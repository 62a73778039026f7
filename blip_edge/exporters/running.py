"""One graph of a bundle run by itself, all outputs seen; and what it computes in.

Engines keep caches to themselves, and rightly. Here each graph is opened alone, to compare every
output with torch, and to count which multiplications really run in 8 bits: what a file asks for
and what a runtime makes of it are two things.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blip_edge.errors import import_extra
from blip_edge.exporters.pte import operators_of
from blip_edge.runtime.engine import F32
from blip_edge.runtime.executorch import ExecuTorchRunner
from blip_edge.runtime.manifest import Graph, Manifest, Target
from blip_edge.runtime.mil import MilProgram
from blip_edge.runtime.openvino import compiled

__all__ = ["Operators", "Running", "open_graph"]

Feeds = Mapping[str, NDArray[Any]]

# Sizes that free axes get where only the kind of work matters.
_SIZES = {"R": 2, "Q": 2, "T": 2, "P": 2, "N": 2}
_ORT_INT8 = frozenset(
    {
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QGemm",
        "QLinearMatMul",
    }
)
_ORT_FLOAT = frozenset({"Conv", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul"})
_OPENVINO_INT8 = frozenset({"i4", "i8", "u4", "u8"})
_OPENVINO_PRODUCTS = frozenset({"Convolution", "FullyConnected", "MatMul"})
_XNNPACK_PRODUCTS = frozenset({"XNNBatchMatrixMultiply", "XNNConv2d", "XNNFullyConnected"})
_MIL_INT8 = frozenset({"constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"})
_MIL_PRODUCTS = frozenset({"conv", "linear", "matmul"})


@dataclass(frozen=True)
class Operators:
    """What a graph runs, after its runtime optimised it."""

    int8: int
    """Matrix products with integers for weights."""
    float: int
    """Matrix products in floating point, attention's included."""
    by_type: dict[str, int]
    int8_inputs: int | None = None
    """Of `int8`, those whose inputs are rounded too; None where all are, or the runtime decides."""

    @classmethod
    def counted(cls, kinds: Iterable[str], int8: int, float: int) -> "Operators":
        """With `kinds` counted, the most frequent first."""
        counts = sorted(Counter(kinds).items(), key=lambda item: (-item[1], item[0]))
        return cls(int8, float, dict(counts))

    def to_json(self) -> dict[str, Any]:
        """As manifest.json has it."""
        told = {} if self.int8_inputs is None else {"int8_inputs": self.int8_inputs}
        return {"int8": self.int8, **told, "float": self.float, "by_type": self.by_type}

    def missing(self, row: Mapping[str, Any]) -> list[str]:
        """What manifest.json claims in a graph's `row` and does not run with integers."""
        found = []
        claimed, static = int(row.get("int8_layers", 0)), int(row.get("forms", {}).get("static", 0))
        if self.int8 < claimed:
            found.append(f"only {self.int8} of {claimed} layers run in 8 bits or fewer")
        if self.int8_inputs is not None and self.int8_inputs < static:
            found.append(f"only {self.int8_inputs} of {static} layers round their inputs")
        return found


class Running(Protocol):
    """A graph that is open."""

    def __call__(self, feeds: Feeds) -> dict[str, F32]:
        """Every output by name, whether it was declared or not."""
        ...

    def operators(self) -> Operators:
        """What the runtime executes; ends the graph's use."""
        ...


def open_graph(manifest: Manifest, name: str) -> Running:
    """Open one graph of a bundle as its engine would."""
    graph = manifest.graph(name)
    return _RUNNING[graph.engine or manifest.target](graph, manifest.precision)


class _Onnx:
    """Profiled: the profile names the kernels that ran, and needs no package but the runtime."""

    def __init__(self, graph: Graph, precision: str) -> None:
        runtime = import_extra("onnxruntime", "onnx")
        self._graph = graph
        self._scratch = TemporaryDirectory()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._scratch.name) / "profile")
        self._session = runtime.InferenceSession(
            str(graph.path), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, feeds: Feeds) -> dict[str, F32]:
        names = [port.name for port in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))

    def operators(self) -> Operators:
        self(_zeros(self._graph))
        profile = Path(self._session.end_profiling()).read_text(encoding="utf-8")
        kernels = {
            event["name"]: event["args"]["op_name"]
            for event in json.loads(profile)
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
        }
        self._scratch.cleanup()
        kinds = list(kernels.values())
        int8 = sum(kind in _ORT_INT8 for kind in kinds)
        return Operators.counted(kinds, int8, sum(kind in _ORT_FLOAT for kind in kinds))


class _OpenVino:
    def __init__(self, graph: Graph, precision: str) -> None:
        openvino = import_extra("openvino", "openvino")
        self._graph = graph
        self._model = compiled(openvino.Core(), graph, {}, beside=precision)

    def __call__(self, feeds: Feeds) -> dict[str, F32]:
        result = self._model(dict(feeds))
        return {self._name(port): np.array(result[port]) for port in self._model.outputs}

    def _name(self, port: Any) -> str:
        names = {str(name) for name in port.get_names()}  # one tensor may have several
        return min(names & self._graph.outputs.keys() or names, default="without a name")

    def operators(self) -> Operators:
        kinds, int8, floats = [], 0, 0
        for operator in self._model.get_runtime_model().get_ops():
            info = operator.get_rt_info()
            kind, precision = _text(info["layerType"]), _text(info["runtimePrecision"])
            kinds.append(f"{kind}.{precision}")
            if kind in _OPENVINO_PRODUCTS:
                int8 += precision in _OPENVINO_INT8
                floats += precision not in _OPENVINO_INT8
        return Operators.counted(kinds, int8, floats)


class _CoreML:
    """Evaluated off Core ML, so that the same numbers come out everywhere."""

    def __init__(self, graph: Graph, precision: str) -> None:
        self._graph = graph
        self._program = MilProgram(graph.path, graph.function)

    def __call__(self, feeds: Feeds) -> dict[str, F32]:
        return self._program(feeds, self._program.make_state())

    def operators(self) -> Operators:
        load_spec = import_extra("coremltools.models.utils", "coreml").load_spec
        functions = load_spec(str(self._graph.path)).mlProgram.functions
        function = functions[self._graph.function or "main"]
        operations = list(function.block_specializations[function.opset].operations)
        integers = _results(op for op in operations if op.type in _MIL_INT8)
        rounded = _results(op for op in operations if op.type == "dequantize")
        products = [op for op in operations if op.type in _MIL_PRODUCTS]
        int8 = [op for op in products if not integers.isdisjoint(_arguments(op))]
        both = sum(not rounded.isdisjoint(_arguments(op)) for op in int8)
        kinds = [op.type for op in operations if op.type != "const"]
        floats = len(products) - len(int8)
        return replace(Operators.counted(kinds, len(int8), floats), int8_inputs=both)


class _ExecuTorch:
    def __init__(self, graph: Graph, precision: str) -> None:
        self._path = graph.path
        self._runner = ExecuTorchRunner(graph)

    def __call__(self, feeds: Feeds) -> dict[str, F32]:
        return {name: tensor.numpy() for name, tensor in self._runner(feeds).items()}

    def operators(self) -> Operators:
        kinds = operators_of(self._path)
        return Operators.counted(kinds, 0, sum(kind in _XNNPACK_PRODUCTS for kind in kinds))


def _results(operations: Iterable[Any]) -> set[str]:
    return {output.name for operation in operations for output in operation.outputs}


def _arguments(operation: Any) -> list[str]:
    return [a.name for value in operation.inputs.values() for a in value.arguments]


def _zeros(graph: Graph) -> Feeds:
    return {
        name: np.zeros([s if isinstance(s, int) else _SIZES[s] for s in port.shape], port.dtype)
        for name, port in graph.inputs.items()
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value.astype(str))


_RUNNING: dict[Target, Callable[[Graph, str], Running]] = {
    "onnx": _Onnx,
    "openvino": _OpenVino,
    "coreml": _CoreML,
    "executorch": _ExecuTorch,
}
