"""Graphs to OpenVINO's intermediate representation, by way of ONNX.

One description of the 8-bit layers serves both targets: OpenVINO's own passes turn the
QuantizeLinear and DequantizeLinear pairs of the ONNX graph into 8-bit products.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from blip_edge.errors import import_extra
from blip_edge.exporters.graphs import Graph
from blip_edge.exporters.onnx import write_onnx
from blip_edge.exporters.recipe import Precision

__all__ = ["write_openvino"]


def write_openvino(graph: Graph, path: Path, *, precision: Precision, opset: int = 18) -> None:
    """Write `graph` to the .xml file `path` and the .bin file beside it.

    At fp16 weights are stored in half precision; what they are computed in is the runtime's choice.

    Raises:
        MissingExtraError: openvino, onnx or onnxscript is not installed.
        ArtifactError: the weights are too large to pass through ONNX.
    """
    openvino = import_extra("openvino", "openvino")
    with TemporaryDirectory() as scratch:
        between = Path(scratch) / "graph.onnx"
        write_onnx(graph, between, opset=opset)
        model = openvino.convert_model(str(between))
        openvino.save_model(model, str(path), compress_to_fp16=precision == "fp16")
