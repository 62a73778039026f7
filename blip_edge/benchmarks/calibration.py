"""What an engine reaches here at its best: one matrix product in float32, and one in 8 bits.

The same engine, threads and minute as the bundle's own times: what is left between the two is the
graph's, not the machine's. Graphs of one product are made here without any package but the engine.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from blip_edge.benchmarks.machine import best_seconds
from blip_edge.errors import import_extra

__all__ = ["calibrate"]

_SIDE = 1024  # of the square matrices: as `machine` has them
_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # TensorProto.DataType
_IR, _OPSET = 9, 17


def calibrate(target: str, threads: int, *, seconds: float = 0.3) -> dict[str, float | None] | None:
    """The best rates in `seconds` each: `fp32_gflops` and `int8_gflops`, 10^9 operations a second.

    Inputs and weights have 8 bits, sums 32. In 8 bits it is None where the engine multiplies in
    another type. None altogether for engines that take no graphs of ours.
    """
    if target not in _PRODUCTS:
        return None
    rates: dict[str, float | None] = {}
    for name, integers in (("fp32_gflops", False), ("int8_gflops", True)):
        product = _PRODUCTS[target](integers, threads, _SIDE)
        rates[name] = None
        if product is not None:
            rates[name] = round(2 * _SIDE**3 / best_seconds(product, seconds) / 1e9, 1)
    return rates


def _onnx(integers: bool, threads: int, side: int) -> Callable[[], Any]:
    runtime = import_extra("onnxruntime", "onnx")
    given, weight = _matrices(integers, side)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(_model(weight), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": given})


def _openvino(integers: bool, threads: int, side: int) -> Callable[[], Any] | None:
    openvino = import_extra("openvino", "openvino")
    op = openvino.opset13
    given, weight = _matrices(integers, side)

    def number(value: float) -> Any:
        return op.constant(np.float32(value))

    given_node = op.parameter([side, side], given.dtype.type)
    left, right = given_node, op.constant(np.ascontiguousarray(weight.T))
    if integers:  # as quantized graphs have it: scales of a hundredth on both sides
        limits = (number(0), number(255), number(0), number(2.55))
        left = op.fake_quantize(op.convert(left, "f32"), *limits, 256)
        right = op.multiply(op.convert(right, "f32"), number(0.01))
    graph = openvino.Model([op.matmul(left, right, False, True)], [given_node])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    model = openvino.Core().compile_model(graph, "CPU", settings)
    operators = [operator.get_rt_info() for operator in model.get_runtime_model().get_ops()]
    kernels = [info["primitiveType"].astype(str) for info in operators if _multiplies(info)]
    # The precision that it names beside is that of the weights, whatever they are multiplied in.
    if integers and not all(kernel.endswith("I8") for kernel in kernels):
        return None
    request = model.create_infer_request()
    request.set_input_tensor(openvino.Tensor(given))
    infer: Callable[[], Any] = request.infer
    return infer


def _multiplies(info: Any) -> bool:
    return info["layerType"].astype(str) in ("FullyConnected", "MatMul")


_PRODUCTS: dict[str, Callable[[bool, int, int], Callable[[], Any] | None]] = {
    "onnx": _onnx,
    "openvino": _openvino,
}


def _matrices(integers: bool, side: int) -> tuple[Any, Any]:
    """Something to multiply, and the constant that it is multiplied with."""
    random = np.random.default_rng(0)
    if not integers:
        left, right = random.standard_normal((2, side, side), dtype=np.float32)
        return left, right
    # Seven bits: processors without VNNI add two products of bytes in 16 bits.
    given = random.integers(0, 128, (side, side), dtype=np.uint8)
    return given, random.integers(-64, 64, (side, side), dtype=np.int8)


def _model(weight: Any) -> bytes:
    """An ONNX file, y = x · weight (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).

    Written field by field: on the devices that are timed there is no package that writes ONNX.
    """
    integers = weight.dtype == np.int8
    kind = _INT8 if integers else _FLOAT
    operator = b"MatMulInteger" if integers else b"MatMul"
    shape = weight.shape
    node = _bytes(1, b"x") + _bytes(1, b"w") + _bytes(2, b"y") + _bytes(4, operator)
    tensor = b"".join(_number(1, size) for size in shape) + _number(2, kind)
    tensor += _bytes(8, b"w") + _bytes(9, weight.tobytes())
    graph = _bytes(1, node) + _bytes(2, b"product") + _bytes(5, tensor)
    graph += _bytes(11, _port(b"x", _UINT8 if integers else _FLOAT, shape))
    graph += _bytes(12, _port(b"y", _INT32 if integers else _FLOAT, shape))
    return _number(1, _IR) + _bytes(7, graph) + _bytes(8, _bytes(1, b"") + _number(2, _OPSET))


def _port(name: bytes, kind: int, shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, sizes)))


def _number(field: int, value: int) -> bytes:
    """A protobuf field that holds a number (https://protobuf.dev/programming-guides/encoding)."""
    return bytes([*_varint(field << 3), *_varint(value)])


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([*_varint(field << 3 | 2), *_varint(len(value))]) + value


def _varint(value: int) -> Iterator[int]:
    while value > 127:
        yield value & 127 | 128
        value >>= 7
    yield value
