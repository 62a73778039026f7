"""What graphs compute in on OpenVINO, where a processor has bfloat16 and perhaps AMX."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blip_edge.runtime.manifest import Graph
from blip_edge.runtime.openvino import compiled

openvino = pytest.importorskip("openvino")


def product(
    inputs: int, outputs: int, *, turned: bool = True, rounded: bool = False, twice: bool = False
) -> Any:
    """A layer with integer weights, its inputs rounded to integers or not."""
    op = openvino.opset13
    given = op.parameter([-1, inputs], np.float32, name="x")
    sides = (outputs, inputs) if turned else (inputs, outputs)
    integers = np.random.default_rng(0).integers(-9, 9, sides, dtype=np.int8)
    left, right = given, op.multiply(op.convert(op.constant(integers), "f32"), np.float32(0.1))
    if rounded:
        limits = (op.constant(np.float32(limit)) for limit in (0, 255, 0, 255))
        left = op.fake_quantize(left, *limits, 256)
        if twice:  # as ONNX files have it: to integers and back
            left = op.multiply(op.convert(op.convert(left, "u8"), "f32"), np.float32(1))
    return openvino.Model([op.matmul(left, right, False, turned)], [given])


def opened(model: Any, folder: Path, **how: Any) -> Any:
    openvino.save_model(model, str(folder / "text.xml"), compress_to_fp16=False)
    graph = Graph(folder / "text.xml", "", {}, {})
    return compiled(openvino.Core(), graph, {}, beside="int8", **how)


def products(model: Any) -> list[tuple[str, str]]:
    """Precision of the weights of all products, and their kernels."""
    found = [operator.get_rt_info() for operator in model.get_runtime_model().get_ops()]
    return [
        (info["runtimePrecision"].astype(str), info["primitiveType"].astype(str))
        for info in found
        if info["layerType"].astype(str) == "FullyConnected"
    ]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("inputs", "outputs", "narrow"),
    [(48, 64, True), (64, 48, False), (32, 32, True), (64, 32, False), (520, 48, False),
     (48, 520, False), (520, 520, False)],
)  # fmt: skip
def test_integer_weights_stay_integers_at_every_width(
    tmp_path: Path, inputs: int, outputs: int, narrow: bool, turned: bool
) -> None:
    """Pruned models are as wide as whatever was left."""
    model = opened(product(inputs, outputs, turned=turned), tmp_path)
    assert [precision for precision, _ in products(model)] == ["i8"]
    half = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    computes_in = model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    assert computes_in == ("bf16" if half and not narrow else "f32")


@pytest.mark.parametrize("twice", [False, True])
def test_layers_that_round_their_inputs_compute_in_integers_anyway(
    tmp_path: Path, twice: bool
) -> None:
    model = opened(product(48, 64, rounded=True, twice=twice), tmp_path)
    assert all(kernel.endswith("I8") for _, kernel in products(model))
    half = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert (model.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "bf16") == half
