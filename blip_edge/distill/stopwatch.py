"""How long a part of a tower takes here, in the engine that runs bundles."""

import time

from blip_edge.distill.engine_layers import Layer, model_of
from blip_edge.errors import import_extra

__all__ = ["seconds_of"]

_SECONDS, _LEAST_RUNS = 0.02, 3
"""A part is run over and over for so long, and at least so often."""


def seconds_of(layer: Layer) -> float:
    """Seconds of one run in ONNX Runtime, on one thread, the call itself among them.

    The shortest of many runs: whatever else the machine does only makes them longer.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    model, feeds = model_of(layer)
    runtime = import_extra("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(None, feeds)
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < _LEAST_RUNS or time.perf_counter() - begun < _SECONDS:
        start = time.perf_counter()
        session.run(None, feeds)
        taken.append(time.perf_counter() - start)
    return min(taken)
