"""Graphs to OpenVINO's intermediate representation, by way of ONNX.

One description of the layers with integers serves both targets: OpenVINO's own passes turn the
QuantizeLinear and DequantizeLinear pairs of the ONNX graph into 8-bit products, and weights alone
into compressed ones, for which its plugin rounds the inputs group by group.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blip_edge.errors import import_extra
from blip_edge.exporters.graphs import Graph
from blip_edge.exporters.onnx import onnx_model, save_onnx
from blip_edge.exporters.recipe import Precision

__all__ = ["write_openvino"]


def write_openvino(graph: Graph, path: Path, *, precision: Precision, opset: int = 18) -> None:
    """Write `graph` to the .xml file `path` and the .bin file beside it.

    At fp16 weights are stored in half precision; what they are computed in is the runtime's choice.

    Raises:
        MissingExtraError: openvino, onnx or onnxscript is not installed.
    """
    openvino = import_extra("openvino", "openvino")
    onnx = import_extra("onnx", "onnx")
    proto = onnx_model(graph, opset=opset)
    _look_up_in_constants(onnx, proto.graph)
    with TemporaryDirectory() as scratch:
        between = Path(scratch) / "graph.onnx"
        save_onnx(proto, between)
        model = openvino.convert_model(str(between))
        openvino.save_model(model, str(path), compress_to_fp16=precision == "fp16")


def _look_up_in_constants(onnx: Any, graph: Any) -> None:
    """Repeat, flat, what GatherBlockQuantized looks up: OpenVINO's reader takes constants alone.

    The .bin file holds equal constants once.
    """
    weights = {weight.name: weight for weight in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type != "GatherBlockQuantized" or node.input[0] in weights:
            continue
        table = onnx.numpy_helper.to_array(weights[made_by[node.input[0]].input[0]])
        name = f"{node.input[0]}.flat"
        flat = table.reshape(len(table), -1)
        graph.initializer.append(onnx.numpy_helper.from_array(flat, name))
        node.input[0] = name
