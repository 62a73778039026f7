"""The products that an engine is calibrated with are the products that they should be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from blip_edge.benchmarks import calibration
from blip_edge.benchmarks.calibration import calibrate

SIDE = 192  # sizes of two bytes in the file, so that numbers are continued


@pytest.mark.parametrize("integers", [False, True])
def test_the_file_that_is_written_by_hand_is_onnx(integers: bool) -> None:
    onnx = pytest.importorskip("onnx")
    _, weight = calibration._matrices(integers, SIDE)
    model = onnx.load_model_from_string(calibration._model(weight))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == [
        "MatMulInteger" if integers else "MatMul"
    ]
    kept = onnx.numpy_helper.to_array(model.graph.initializer[0])
    np.testing.assert_array_equal(kept, weight)


@pytest.mark.parametrize("integers", [False, True])
def test_onnx_runtime_multiplies(integers: bool) -> None:
    pytest.importorskip("onnxruntime")
    [found] = calibration._onnx(integers, 1, SIDE)()
    given, weight = calibration._matrices(integers, SIDE)
    exact = given.astype(np.float64) @ weight.astype(np.float64)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("integers", [False, True])
def test_openvino_multiplies(integers: bool) -> None:
    pytest.importorskip("openvino")
    infer = calibration._openvino(integers, 1, SIDE)
    if infer is None:
        pytest.skip("OpenVINO has no 8-bit products on this processor")
    infer()
    found = infer.__self__.get_output_tensor().data  # type: ignore[attr-defined]
    given, weight = calibration._matrices(integers, SIDE)
    exact = given.astype(np.float64) @ weight.astype(np.float64) * (1e-4 if integers else 1.0)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_rates_are_positive(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime" if target == "onnx" else "openvino")
    monkeypatch.setattr(calibration, "_SIDE", 64)
    rates = calibrate(target, 1, seconds=0)
    assert rates is not None
    assert rates["fp32_gflops"] and rates["fp32_gflops"] > 0
    assert rates["int8_gflops"] is None or rates["int8_gflops"] > 0


def test_what_cannot_multiply_in_8_bits_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def product(integers: bool, threads: int, side: int) -> Callable[[], Any] | None:
        return None if integers else lambda: None

    monkeypatch.setitem(calibration._PRODUCTS, "onnx", product)
    rates = calibrate("onnx", 1, seconds=0)
    assert rates is not None and rates["int8_gflops"] is None
    assert calibrate("coreml", 1) is None
