"""Graphs to ONNX files: small, free of anything about the machine that wrote them, and in 8 bits
where the model is.

An 8-bit layer is written as QuantizeLinear, DequantizeLinear and MatMul, the form that every
runtime understands, over weights that the file holds as int8. Whether a runtime really multiplies
in 8 bits is another matter: see `operators`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blip_edge.errors import ArtifactError, import_extra
from blip_edge.exporters.graphs import Graph
from blip_edge.exporters.quiet import quiet
from blip_edge.models.quantized import QuantizedLinear, QuantizedWords

__all__ = ["write_onnx"]

# A protobuf ends at 2 GB; weights beyond that would need a second file.
_MOST_BYTES = 1_500_000_000
# Biases and norms: not worth a Cast each.
_LARGE = 1024


def write_onnx(graph: Graph, path: Path, *, opset: int = 18, half: bool = False) -> None:
    """Write `graph` to the ONNX file `path`.

    With `half` the file holds weights in float16. They are computed with in float32: ONNX Runtime
    has few half-precision kernels for processors, and casts weights once, when the file is opened.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ArtifactError: the weights do not fit into one file.
    """
    onnx = import_extra("onnx", "onnx")
    import_extra("onnxscript", "onnx")
    weights = sum(t.nbytes for t in [*graph.parameters(), *graph.buffers()])
    if weights > _MOST_BYTES:
        raise ArtifactError(
            f"{weights / 1e9:.1f} GB of weights do not fit into {path.name}, which holds at most "
            f"{_MOST_BYTES / 1e9:.1f} GB; quantize or prune the model first"
        )
    with _quantized_as_operators(graph), quiet():
        program = torch.onnx.export(
            graph.eval(),
            graph.examples(),
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=graph.dynamic_shapes(_free_sizes()),
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # The exporter notes source lines and paths of this machine at every node.
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""
    if half:
        _halve(onnx, model.graph)
    onnx.save(model, str(path))


def _halve(onnx: Any, graph: Any) -> None:
    """Store large float32 weights in float16, each behind a Cast that has its name."""
    casts = []
    for weight in graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or math.prod(weight.dims) < _LARGE:
            continue
        name, stored = weight.name, f"{weight.name}.half"
        values = onnx.numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _free_sizes() -> dict[str, object]:
    return {
        "R": torch.export.Dim("R", min=1),
        "Q": torch.export.Dim("Q", min=1),
        "T": torch.export.Dim("T", min=1, max=4096),
        "P": torch.export.Dim("P", min=0, max=4096),
        "N": torch.export.Dim("N", min=1, max=4096),
    }


@contextmanager
def _quantized_as_operators(graph: Graph) -> Iterator[None]:
    """Let 8-bit layers appear as ONNX's own operators while the block runs."""
    layers: dict[str, nn.Module] = {**graph.int8_layers()}
    written = {path: _QuantizedOperators(layer) for path, layer in graph.int8_layers().items()}
    of_weights = {id(layers[path].weight): operators for path, operators in written.items()}
    tables = {p: m for p, m in graph.named_modules() if isinstance(m, QuantizedWords)}
    try:
        for path, operators in written.items():
            graph.set_submodule(path, operators)
        for path, words in tables.items():
            if (head := of_weights.get(id(words.weight))) is not None:
                graph.set_submodule(path, _SharedWords(head))
        yield
    finally:
        for path, layer in {**layers, **tables}.items():
            graph.set_submodule(path, layer)


class _QuantizedOperators(nn.Module):
    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    input_scale: Tensor
    input_zero_point: Tensor
    bias: Tensor

    def __init__(self, layer: QuantizedLinear) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.T.contiguous())  # (I, O), as MatMul reads it
        self.register_buffer("weight_scale", layer.weight_scale)
        self.register_buffer("weight_zero_point", torch.zeros_like(layer.weight[:, 0]))
        self.register_buffer("input_scale", layer.input_scale)
        self.register_buffer("input_zero_point", layer.input_zero_point)
        # Three axes, or ONNX Runtime makes Gemm of MatMul and Add, which it has no 8-bit kernel
        # for when the output is float.
        self.register_buffer("bias", layer.bias[None, None, :])

    def forward(self, x: Tensor, *shared: Tensor | None) -> Tensor:
        """(…, T, I) to (…, T, O)."""
        operator = torch.onnx.ops.symbolic
        step = (self.input_scale, self.input_zero_point)
        steps = operator("QuantizeLinear", (x, *step), dtype=torch.uint8, shape=x.shape)
        x = operator("DequantizeLinear", (steps, *step), dtype=torch.float32, shape=x.shape)
        weight = operator(
            "DequantizeLinear",
            (self.weight, self.weight_scale, self.weight_zero_point),
            {"axis": 1},
            dtype=torch.float32,
            shape=self.weight.shape,
        )
        return x @ weight + self.bias


class _SharedWords(nn.Module):
    """The word table in the layout that its head's product reads: the file holds it once."""

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, head: _QuantizedOperators) -> None:
        super().__init__()
        self.register_buffer("weight", head.weight)  # (I, V)
        self.register_buffer("weight_scale", head.weight_scale)

    def forward(self, ids: Tensor) -> Tensor:
        """(R, T) to (R, T, I)."""
        flat = ids.flatten()
        rows = self.weight.index_select(1, flat).T.float()  # (R · T, I)
        rows = rows * self.weight_scale.index_select(0, flat)[:, None]
        table: Tensor = rows.unflatten(0, ids.shape)
        return table
