"""How long a matrix product takes here, in the engine that runs bundles."""

import time

import numpy as np

from blip_edge.errors import import_extra

__all__ = ["product_seconds"]

_RUNS, _SECONDS = 30, 0.02
"""A product is repeated so often, or so long if that comes first; the median counts."""


def product_seconds(rows: int, inputs: int, outputs: int) -> float:
    """Median seconds of (rows, inputs) by a constant (inputs, outputs) in ONNX Runtime, one thread.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx = import_extra("onnx", "onnx")
    import onnxruntime

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.full((inputs, outputs), 0.01, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", kind, [rows, inputs])],
        [helper.make_tensor_value_info("y", kind, [rows, outputs])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {"x": np.ones((rows, inputs), dtype=np.float32)}
    session.run(None, given)
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < _RUNS and (len(taken) < 3 or time.perf_counter() - begun < _SECONDS):
        start = time.perf_counter()
        session.run(None, given)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))
