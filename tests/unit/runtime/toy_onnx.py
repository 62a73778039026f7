"""The toy captioner as ONNX graphs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.unit.runtime import toy

_F, _I = TensorProto.FLOAT, TensorProto.INT32


def write_onnx(folder: Path) -> None:
    """vision.onnx and decoder.onnx."""
    onnx.save(_vision(), folder / "vision.onnx")
    onnx.save(_decoder(), folder / "decoder.onnx")


class _Nodes:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any] | list[int]) -> str:
        array = np.asarray(value, dtype=np.int64) if isinstance(value, list) else value
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def model(self, inputs: list[Any], outputs: list[Any]) -> Any:
        graph = helper.make_graph(self.nodes, "toy", inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _values(name: str, shape: list[int | str], kind: int = _F) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


_CROSS_KEY = _values("cross_key_0", [1, toy.HEADS, toy.WIDTH, toy.TOKENS])
_CROSS_VALUE = _values("cross_value_0", [1, toy.HEADS, toy.TOKENS, toy.WIDTH])


def _vision() -> Any:
    g = _Nodes()
    colour = g.add("ReduceMean", ["pixel_values", g.constant("axes", [2, 3])], "colour", keepdims=0)
    for name, weight, shape in (
        ("cross_key_0", toy.LOOK_KEY, [1, toy.HEADS, toy.WIDTH, toy.TOKENS]),
        ("cross_value_0", toy.LOOK_VALUE, [1, toy.HEADS, toy.TOKENS, toy.WIDTH]),
    ):
        flat = g.add("MatMul", [colour, g.constant(f"{name}_w", weight)], f"{name}_flat")
        g.add("Reshape", [flat, g.constant(f"{name}_shape", shape)], name)
    return g.model(
        [_values("pixel_values", [1, 3, toy.SIDE, toy.SIDE])], [_CROSS_KEY, _CROSS_VALUE]
    )


def _decoder() -> Any:
    g = _Nodes()
    heads = g.constant("heads", [0, 0, toy.HEADS, toy.WIDTH])
    flat = g.constant("flat", [-1, toy.D])
    for kind, table in (("key", toy.KEYS), ("value", toy.VALUES)):
        words = g.add("Gather", [g.constant(f"{kind}_table", table), "input_ids"], f"{kind}_words")
        split = g.add("Reshape", [words, heads], f"{kind}_split")
        new = g.add("Transpose", [split], f"{kind}_new", perm=[0, 2, 1, 3])
        old = g.add("Gather", [f"past_{kind}_0", "beam_idx"], f"{kind}_past", axis=0)
        g.add("Concat", [old, new], f"present_{kind}_0", axis=2)
    mean = g.add("ReduceMean", ["present_key_0", g.constant("two", [2])], "mean", keepdims=0)
    last = g.add("Gather", ["present_value_0", g.constant("end", np.asarray(-1))], "last", axis=2)
    look_key = g.add("ReduceMean", ["cross_key_0", g.constant("three", [3])], "lk", keepdims=0)
    look_value = g.add("ReduceMean", ["cross_value_0", "two"], "lv", keepdims=0)
    own = g.add("Add", [mean, last], "own")
    look = g.add("Add", [look_key, look_value], "look")
    state = g.add("Tanh", [g.add("Reshape", [g.add("Add", [own, look], "sum"), flat], "row")], "s")
    g.add("MatMul", [state, g.constant("head", toy.HEAD)], "logits")
    past: list[int | str] = ["Q", toy.HEADS, "P", toy.WIDTH]
    present: list[int | str] = ["R", toy.HEADS, "PT", toy.WIDTH]
    inputs = [_values("input_ids", ["R", "T"], _I), _values("beam_idx", ["R"], _I)]
    inputs += [_values(f"past_{kind}_0", past) for kind in ("key", "value")]
    outputs = [_values("logits", ["R", toy.V])]
    outputs += [_values(f"present_{kind}_0", present) for kind in ("key", "value")]
    return g.model([*inputs, _CROSS_KEY, _CROSS_VALUE], outputs)
