"""Parts of a tower as graphs of the engine, with the operators that exported ones have.

What a layer takes is not its products alone: in small networks norms, activations and the engine's
own work for each operator take longer, and go with a layer as a whole.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blip_edge.errors import import_extra

__all__ = ["Attention", "FeedForward", "Layer", "Linear", "Look", "model_of"]

# B texts or pictures · R tokens of each · D width · H heads · K width of a head
# N tokens that are attended to · F neurons

_OPSET, _IR = 17, 9
_SQRT_2 = 1.4142135


@dataclass(frozen=True)
class Linear:
    """A matrix and its bias: (rows, inputs) to (rows, outputs)."""

    rows: int
    inputs: int
    outputs: int

    def build(self, graph: "_Graph") -> None:
        """Add its operators."""
        graph.linear(graph.given("x", self.rows, self.inputs), self.inputs, self.outputs)


@dataclass(frozen=True)
class FeedForward:
    """Neurons between two matrices, the sum with what came in, and a norm."""

    rows: int
    width: int
    neurons: int

    def build(self, graph: "_Graph") -> None:
        """Add its operators."""
        x = graph.given("x", self.rows, self.width)
        inner = graph.gelu(graph.linear(x, self.width, self.neurons))
        graph.norm(graph.add("Add", graph.linear(inner, self.neurons, self.width), x), self.width)


@dataclass(frozen=True)
class _Attending:
    """`rows` tokens of each of a batch, which attend to `tokens`."""

    batch: int
    rows: int
    width: int
    heads: int
    head_width: int
    tokens: int

    def _given(self, graph: "_Graph") -> str:
        return graph.given("x", self.batch, self.rows, self.width)

    def _split(self, graph: "_Graph", x: str) -> str:
        """Queries, keys or values of `x` by heads: (B, H, R, K)."""
        linear = graph.linear(x, self.width, self.heads * self.head_width)
        return graph.heads(linear, self.rows, self.heads, self.head_width)

    def _attend(self, graph: "_Graph", x: str, query: str, key: str, value: str) -> None:
        inner = self.heads * self.head_width
        graph.attend(x, query, key, value, self.rows, self.width, inner)


class Attention(_Attending):
    """Self-attention: `tokens` are the rows themselves and those that a cache holds.

    The cache is of texts that went on in another order, as beams do.
    """

    def build(self, graph: "_Graph") -> None:
        """Add its operators."""
        x = self._given(graph)
        query, key, value = (self._split(graph, x) for _ in range(3))
        if past := self.tokens - self.rows:
            shape = (self.batch, self.heads, past, self.head_width)
            order = graph.constant(np.arange(self.batch)[::-1].copy())
            key = graph.after(graph.given("past_key", *shape), order, key)
            value = graph.after(graph.given("past_value", *shape), order, value)
        turned = graph.add("Transpose", key, perm=[0, 1, 3, 2])
        self._attend(graph, x, query, turned, value)


class Look(_Attending):
    """Cross-attention to one picture's keys and values, which are there."""

    def build(self, graph: "_Graph") -> None:
        """Add its operators."""
        x = self._given(graph)
        key = graph.given("cross_key", 1, self.heads, self.head_width, self.tokens)
        value = graph.given("cross_value", 1, self.heads, self.tokens, self.head_width)
        self._attend(graph, x, self._split(graph, x), key, value)


Layer = Linear | FeedForward | Attention | Look


def model_of(layer: Layer) -> tuple[bytes, dict[str, np.ndarray]]:
    """An ONNX model of `layer` with constant weights, and something to feed it.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    graph = _Graph(import_extra("onnx", "onnx"))
    layer.build(graph)
    return graph.serialized(), graph.feeds


@dataclass
class _Graph:
    """A graph as it grows; its methods give the name of what an operator yields."""

    onnx: Any
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    feeds: dict[str, np.ndarray] = field(default_factory=dict)

    def given(self, name: str, *shape: int) -> str:
        self.feeds[name] = np.full(shape, 0.1, dtype=np.float32)
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"y{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def floats(self, *shape: int) -> str:
        return self.constant(np.full(shape, 0.01, dtype=np.float32))

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        product = self.add("MatMul", x, self.floats(inputs, outputs))
        return self.add("Add", product, self.floats(outputs))

    def gelu(self, x: str) -> str:
        # In the order in which ONNX Runtime joins the five into one.
        half, one, root = (self.constant(np.float32(number)) for number in (0.5, 1, _SQRT_2))
        shifted = self.add("Add", self.add("Erf", self.add("Div", x, root)), one)
        return self.add("Mul", self.add("Mul", x, shifted), half)

    def norm(self, x: str, width: int) -> None:
        self.add("LayerNormalization", x, self.floats(width), self.floats(width))

    def heads(self, x: str, rows: int, heads: int, head_width: int) -> str:
        """(B, R, H K) to (B, H, R, K)."""
        parts = self.add("Reshape", x, self.constant(np.array([-1, rows, heads, head_width])))
        return self.add("Transpose", parts, perm=[0, 2, 1, 3])

    def after(self, past: str, order: str, new: str) -> str:
        """(B, H, P, K) in another order, and (B, H, R, K) behind."""
        return self.add("Concat", self.add("Gather", past, order), new, axis=2)

    def attend(
        self, x: str, query: str, key: str, value: str, rows: int, width: int, inner: int
    ) -> None:
        """Queries (B, H, R, K), keys (B, H, K, N) and values (B, H, N, K) to (B, R, D)."""
        scaled = self.add("Mul", query, self.constant(np.float32(0.1)))
        weights = self.add("Softmax", self.add("MatMul", scaled, key), axis=-1)
        joined = self.add("Transpose", self.add("MatMul", weights, value), perm=[0, 2, 1, 3])
        flat = self.add("Reshape", joined, self.constant(np.array([-1, rows, inner])))
        self.norm(self.add("Add", self.linear(flat, inner, width), x), width)

    def serialized(self) -> bytes:
        helper, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        inputs = [
            helper.make_tensor_value_info(name, kind, value.shape)
            for name, value in self.feeds.items()
        ]
        last = helper.make_tensor_value_info(self.nodes[-1].output[0], kind, None)
        graph = helper.make_graph(self.nodes, "layer", inputs, [last], self.constants)
        opsets = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR)
        serialized: bytes = model.SerializeToString()
        return serialized
