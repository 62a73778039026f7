"""The network of `whole` as an ONNX file, and which of its tensors the layers read."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blip_edge.errors import import_extra
from blip_edge.quantize.engines.whole import Feed, Whole, path_of
from blip_edge.quiet import quiet

__all__ = ["OnnxWhole", "write_whole"]

_SCOPES = "pkg.torch.onnx.name_scopes"
PRODUCTS = ("MatMul", "Gemm")
# A protobuf ends at 2 GB, and calibration adds outputs to it.
_MOST_BYTES = 1_500_000_000


class OnnxWhole:
    """A written network.

    Attributes:
        path: its file.
        large: its weights are in a second file.
        layers: paths of the layers in Blip by the names of their products' nodes; a layer that is
            run in two places has two.
    """

    def __init__(self, path: Path, model: Any, *, large: bool) -> None:
        self.path, self.large = path, large
        self._names = [value.name for value in model.graph.input]
        self.layers = {
            node.name: path_of(_module(node))
            for node in model.graph.node
            if node.op_type in PRODUCTS and _module(node)
        }

    def inputs(self, feeds: Sequence[Feed]) -> list[dict[str, NDArray[Any]]]:
        """Feeds as ONNX programs take them."""
        return [
            dict(zip(self._names, (np.asarray(each) for each in feed), strict=True))
            for feed in feeds
        ]


def write_whole(whole: Whole, feeds: Sequence[Feed], folder: Path, *, opset: int = 18) -> OnnxWhole:
    """Write `whole` to a file in `folder`.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
    """
    onnx = import_extra("onnx", "onnx")
    import_extra("onnxscript", "onnx")
    with quiet():
        program = torch.onnx.export(
            whole,
            whole.example(feeds[0]),
            dynamo=True,
            dynamic_shapes=whole.free_sizes(feeds[0]),
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model, path = program.model_proto, folder / "whole.onnx"
    large = sum(len(weight.raw_data) for weight in model.graph.initializer) > _MOST_BYTES
    onnx.save(model, str(path), save_as_external_data=large, location=f"{path.name}.data")
    return OnnxWhole(path, model, large=large)


def _module(node: Any) -> str:
    """The path of the innermost module that a node comes from."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            *_, module, _operator = ast.literal_eval(entry.value)
            return str(module)
    return ""
