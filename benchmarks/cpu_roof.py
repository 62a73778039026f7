"""What this machine can do at best, and what a task of `cpu_inference.py` must take at least.

A floor counts the work that no way around is known for: multiplications at the best measured rate
of their precision, and weights, keys and values read at the best measured rate of memory. The two
overlap, so that of each phase the dearer one counts.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from cpu_tasks import (
    ANSWER_TOKENS,
    NEW_TOKENS,
    QUESTION,
    READ,
    TASKS,
    TEXT,
    TEXTS,
    THREADS,
    Sizes,
)

WIDTHS = {"fp32": 4, "bf16": 2, "int8": 1, "int4": 0.5}
"""Bytes of a weight."""
_MULTIPLIED = {"int4": "int8"}
"""In what weights are multiplied, where it is not what they are kept in."""


def measure(side: int, megabytes: int, seconds: float) -> dict[str, Any]:
    """The best rates found: products of `side` x `side` matrices in 10^9 operations a second, by
    precision, and 10^9 bytes read a second, off `megabytes` of memory."""
    import torch

    torch.set_num_threads(THREADS)
    draw = torch.Generator().manual_seed(0)
    left = torch.randn(side, side, generator=draw)
    half = left.to(torch.bfloat16)
    rates = {
        "fp32": [_rate(lambda: left @ left, side, seconds)],
        "bf16": [_rate(lambda: half @ half, side, seconds)],
        "int8": [_rate(_integers(side), side, seconds)],
    }
    for precision, hint in (("fp32", "f32"), ("bf16", "bf16")):
        rates[precision].append(_rate(_openvino(side, hint), side, seconds))
    # One product of a matrix and a vector for each row: the matrix is read, nothing is written.
    wide = torch.ones(megabytes * 250_000 // 1024, 1024)
    vector = torch.ones(1024)
    read = wide.numel() * 4 / _best(lambda: wide @ vector, seconds) / 1e9
    return {
        "gflops": {name: round(max(found), 1) for name, found in rates.items()},
        "read_gb_per_s": round(read, 1),
    }


def _rate(product: Callable[[], Any], side: int, seconds: float) -> float:
    return 2 * side**3 / _best(product, seconds) / 1e9


def _best(work: Callable[[], Any], seconds: float) -> float:
    """Nothing makes a try faster than the machine is."""
    work()
    best, started, tries = float("inf"), perf_counter(), 0
    while tries < 3 or perf_counter() - started < seconds:
        before = perf_counter()
        work()
        best, tries = min(best, perf_counter() - before), tries + 1
    return best


def _openvino(side: int, hint: str) -> Callable[[], Any]:
    import openvino
    from openvino import opset13 as op

    given = op.parameter([side, side], np.float32)
    weight = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    graph = openvino.Model([op.matmul(given, op.constant(weight), False, False)], [given])
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": THREADS}
    request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(weight))
    return request.infer


def _integers(side: int) -> Callable[[], Any]:
    """Unsigned inputs, signed weights, sums of 32 bits, on ONNX Runtime."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    weight = draw.integers(-64, 64, size=(side, side), dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [side, side])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [side, side])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {"x": draw.integers(0, 128, size=(side, side), dtype=np.uint8)}
    return lambda: session.run(None, given)


class Phase(NamedTuple):
    """Work that is done before the next can begin."""

    operations: float
    read: float
    """Numbers that are read."""


def floor_ms(task: str, sizes: Sizes, roof: dict[str, Any], precision: str) -> float:
    """The least time of `task`, in milliseconds, were everything at the roof."""
    rate = 1e9 * roof["gflops"][_MULTIPLIED.get(precision, precision)]
    memory = 1e9 * roof["read_gb_per_s"]
    return 1e3 * sum(
        max(phase.operations / rate, phase.read * WIDTHS[precision] / memory)
        for phase in _phases(task, sizes)
    )


def _phases(task: str, sizes: Sizes) -> list[Phase]:
    seen, beams = sizes.patches, TASKS[task].beams
    if task == "text":
        return [_text(sizes, TEXTS, TEXT, seen=0)]
    if task == "matching":
        return [_vision(sizes), _keys(sizes, seen), _text(sizes, READ, TEXT, seen=seen)]
    if task == "vqa":
        asked = [_keys(sizes, seen), _text(sizes, 1, QUESTION, seen=seen), _keys(sizes, QUESTION)]
        return [_vision(sizes), *asked, *[_step(sizes, 1, QUESTION)] * ANSWER_TOKENS]
    return [_vision(sizes), _keys(sizes, seen), *[_step(sizes, beams, seen)] * NEW_TOKENS]


def _vision(sizes: Sizes) -> Phase:
    wide, tokens, layers = sizes.vision, sizes.patches, sizes.layers
    weights = 12 * wide**2 * layers + 3 * sizes.patch**2 * wide
    return Phase(2 * weights * tokens + 4 * tokens**2 * wide * layers, weights)


def _keys(sizes: Sizes, seen: int) -> Phase:
    """Keys and values of all layers, of what is seen, once."""
    weights = 2 * sizes.vision * sizes.text * sizes.layers
    return Phase(2 * weights * seen, weights)


def _text(sizes: Sizes, rows: int, tokens: int, *, seen: int) -> Phase:
    """All layers over whole texts; reading an image takes a query and an output more."""
    wide, layers = sizes.text, sizes.layers
    weights = (14 if seen else 12) * wide**2 * layers
    attention = 4 * tokens * (tokens + seen) * wide * layers
    return Phase(rows * (2 * weights * tokens + attention), weights)


def _step(sizes: Sizes, rows: int, seen: int) -> Phase:
    """One token a row, its logits included."""
    layer = _text(sizes, rows, 1, seen=seen)
    head = sizes.text * (sizes.words + 2)
    return Phase(
        layer.operations + 2 * rows * head,
        layer.read + head + 2 * seen * sizes.text * sizes.layers,
    )
