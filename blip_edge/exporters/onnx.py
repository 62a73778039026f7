"""Graphs to ONNX files: small, free of anything about the machine that wrote them, and with weights
as integers where the model has them so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from blip_edge.errors import import_extra
from blip_edge.exporters.graphs import Graph
from blip_edge.exporters.half import fits_in_half
from blip_edge.exporters.onnx_functions import translations
from blip_edge.exporters.onnx_layers import head_and_words, layer_operators, word_operators
from blip_edge.models.quantized import QuantizedWords
from blip_edge.quiet import quiet

__all__ = ["halve", "onnx_model", "save_onnx", "write_onnx"]

# A protobuf ends at 2 GB; weights beyond that are in a second file.
_MOST_BYTES = 1_500_000_000
_LARGE = 1024  # less is not worth a place in another file
_SCALED = ("DequantizeLinear", "GatherBlockQuantized", "MatMulNBits")
"""Operators whose integers have scales."""


def write_onnx(graph: Graph, path: Path, *, opset: int = 18, half: bool = False) -> None:
    """Write `graph` to the ONNX file `path`, and what is too large for it to `path`.data.

    With `half` the file holds weights in float16. They are computed with in float32: ONNX Runtime
    has few half-precision kernels for processors, and casts weights once, when the file is opened.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
    """
    onnx = import_extra("onnx", "onnx")
    model = onnx_model(graph, opset=opset)
    if half:
        halve(onnx, model.graph)
    save_onnx(model, path)


def save_onnx(model: Any, path: Path) -> None:
    """Write a ModelProto to `path`, its large weights to `path`.data if one file cannot hold them.

    The model names that file without a folder, so that a bundle can be moved.
    """
    onnx = import_extra("onnx", "onnx")
    stored = sum(len(weight.raw_data) for weight in model.graph.initializer)
    onnx.save(
        model,
        str(path),
        save_as_external_data=stored > _MOST_BYTES,
        location=f"{path.name}.data",
        size_threshold=_LARGE,
    )


def onnx_model(graph: Graph, *, opset: int = 18) -> Any:
    """`graph` as ONNX's ModelProto.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
    """
    import_extra("onnx", "onnx")
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
            custom_translation_table=translations(opset),
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
    return model


def halve(onnx: Any, graph: Any) -> None:
    """Store large float32 matrices in float16, each behind a Cast that has its name.

    Scales stay, as what integers stand for is to be what `quantize` measured.
    """
    scales = {name for node in graph.node if node.op_type in _SCALED for name in node.input[1:]}
    casts = []
    for weight in graph.initializer:
        is_float = weight.data_type == onnx.TensorProto.FLOAT and weight.name not in scales
        if not is_float or not fits_in_half(weight.dims):
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
    """Let layers with integers appear as ONNX's own operators while the block runs."""
    layers: dict[str, nn.Module] = {**graph.int8_layers()}
    tables = {p: m for p, m in graph.named_modules() if isinstance(m, QuantizedWords)}
    written: dict[str, nn.Module] = {path: word_operators(words) for path, words in tables.items()}
    for path, layer in graph.int8_layers().items():
        shared = [p for p, words in tables.items() if words.weight is layer.weight]
        if shared:
            written[path], words = head_and_words(layer)
            written |= dict.fromkeys(shared, words)
        else:
            written[path] = layer_operators(layer)
    try:
        for path, operators in written.items():
            graph.set_submodule(path, operators)
        yield
    finally:
        for path, module in {**layers, **tables}.items():
            graph.set_submodule(path, module)
