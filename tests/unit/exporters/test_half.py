"""What ONNX files hold in half precision beside integers, and what they are compared with."""

import numpy as np
import onnx
import pytest
import torch

from blip_edge.exporters.half import beside_integers, fits_in_half
from blip_edge.exporters.onnx import halve
from blip_edge.models.quantized import (
    LayerDecision,
    Quantization,
    apply_quantization,
    quantizable_tables,
)
from tests import tiny


@pytest.mark.parametrize("quantized", [True, False])
def test_large_matrices_are_rounded_beside_integers_only(quantized: bool) -> None:
    blip = tiny.lively(tiny.config("BlipForImageTextRetrieval", vocab=80))
    if quantized:
        layers = dict.fromkeys(
            quantizable_tables(blip), LayerDecision(decision="int8", weight_bits=8)
        )
        apply_quantization(blip, Quantization(mode="weight-only", layers=layers))
    before = {path: weight.clone() for path, weight in blip.named_parameters()}
    rounded = set()
    for path, weight in beside_integers(blip).named_parameters():
        halves = quantized and fits_in_half(weight.shape)
        want = before[path].half().float() if halves else before[path]
        assert torch.equal(weight, want), path
        if not torch.equal(weight, before[path]):
            rounded.add(path)
    assert ("vision_model.embeddings.patch_embedding.weight" in rounded) == quantized
    assert not any(path.endswith("bias") for path in rounded)


def test_vectors_and_small_matrices_are_not() -> None:
    assert fits_in_half((8, 3, 16, 16)) and fits_in_half((1, 65, 128)) and fits_in_half((64, 16))
    assert not fits_in_half((30524,)) and not fits_in_half((30524, 1)) and not fits_in_half((2, 16))


def test_scales_of_integers_keep_single_precision() -> None:
    scales, matrix, bias = (np.ones(shape, np.float32) for shape in ((64, 32), (64, 32), (2048,)))
    weights = {"scales": scales, "matrix": matrix, "bias": bias}
    node = onnx.helper.make_node
    nodes = [
        node("MatMulNBits", ["x", "integers", "scales"], ["y"]),
        node("MatMul", ["y", "matrix"], ["z"]),
    ]
    held = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "graph", [], [], held)
    halve(onnx, graph)
    kinds = {weight.name: weight.data_type for weight in graph.initializer}
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert kinds == {"scales": single, "matrix.half": half, "bias": single}
