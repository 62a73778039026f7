"""Layers with integers for weights as operators of ONNX, in the form that runtimes multiply fast.

*static*: QuantizeLinear, DequantizeLinear and MatMul, which every runtime understands. *dynamic*:
DynamicQuantizeLinear and MatMulInteger. *weight-only* in 8 bits: DequantizeLinear and MatMul, which
ONNX Runtime joins to its MatMulNBits and OpenVINO to a product with compressed weights; in 4 bits
MatMulNBits itself, as no operator before set 21 has 4-bit numbers. Whether a runtime really
multiplies so is another matter: see `operators`.
"""

import torch
from torch import Tensor, nn

from blip_edge.models.quantized import (
    DynamicLinear,
    GroupedLinear,
    QuantizedLayer,
    QuantizedLinear,
    QuantizedWords,
)

__all__ = ["head_and_words", "layer_operators", "word_operators"]

# O output channels · I input channels · G groups of an output channel · T text tokens
_BLOCKS = (256, 128, 64, 32, 16)  # inputs that may share a scale in MatMulNBits
_INT8_COMPUTE = 4  # MatMulNBits' accuracy level: inputs are rounded to 8 bits, block by block
_UINT8_ZERO = 128
_MICROSOFT = "com.microsoft"
_operator = torch.onnx.ops.symbolic


def layer_operators(layer: QuantizedLayer) -> nn.Module:
    """(…, T, I) to (…, T, O) as `layer` computes it."""
    if isinstance(layer, QuantizedLinear):
        return _Static(layer)
    if isinstance(layer, DynamicLinear):
        return _Dynamic(layer)
    if isinstance(layer, GroupedLinear):
        return _Blocks(layer.weight, layer.weight_scale, layer.bias, bits=4)
    return _WeightOnly(layer)


def head_and_words(head: QuantizedLayer) -> tuple[nn.Module, nn.Module]:
    """The product of a language-model head, and the table of its words.

    The file holds both once, but for a head in 8 bits with floats for inputs whose width no block
    divides: its words are there again.
    """
    product = layer_operators(head)
    if isinstance(product, _Blocks):
        return product, _BlockWords(product.weight, product.weight_scale, bits=product.bits)
    if isinstance(product, _Static | _Dynamic):
        return product, _Columns(product)
    # A table that look-ups share is not joined to MatMulNBits: it is written as one.
    block = next((block for block in _BLOCKS if head.in_features % block == 0), None)
    if block is None:
        return product, _Rows(head.weight, head.weight_scale)
    steps = (head.weight.short() + _UINT8_ZERO).to(torch.uint8).unflatten(1, (-1, block))
    scale = head.weight_scale[:, None].expand(-1, steps.shape[1]).contiguous()
    blocks = _Blocks(steps, scale, head.bias, bits=8)
    return blocks, _BlockWords(blocks.weight, blocks.weight_scale, bits=8)


def word_operators(words: QuantizedWords) -> nn.Module:
    """(R, T) ids to (R, T, I) as `words` looks them up, in a table that no head reads."""
    if words.weight.dtype == torch.int8:
        return _Rows(words.weight, words.weight_scale)
    return _BlockWords(words.weight, words.weight_scale, bits=4)


class _ByChannel(nn.Module):
    """8-bit weights with a scale for each output channel."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    bias: Tensor

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.T.contiguous())  # (I, O), as MatMul reads it
        self.register_buffer("weight_scale", layer.weight_scale)
        self.register_buffer("weight_zero_point", torch.zeros_like(layer.weight[:, 0]))
        # Three axes, or ONNX Runtime makes Gemm of MatMul and Add, which it has no 8-bit kernel
        # for when the output is float.
        self.register_buffer("bias", layer.bias[None, None, :])

    def dequantized(self) -> Tensor:
        """(I, O) float32."""
        found: Tensor = _operator(
            "DequantizeLinear",
            (self.weight, self.weight_scale, self.weight_zero_point),
            {"axis": 1},
            dtype=torch.float32,
            shape=self.weight.shape,
        )
        return found


class _WeightOnly(_ByChannel):
    def forward(self, x: Tensor, *shared: Tensor | None) -> Tensor:
        return x @ self.dequantized() + self.bias


class _Static(_ByChannel):
    input_scale: Tensor
    input_zero_point: Tensor

    def __init__(self, layer: QuantizedLinear) -> None:
        super().__init__(layer)
        self.register_buffer("input_scale", layer.input_scale)
        self.register_buffer("input_zero_point", layer.input_zero_point)

    def forward(self, x: Tensor, *shared: Tensor | None) -> Tensor:
        step = (self.input_scale, self.input_zero_point)
        steps = _operator("QuantizeLinear", (x, *step), dtype=torch.uint8, shape=x.shape)
        x = _operator("DequantizeLinear", (steps, *step), dtype=torch.float32, shape=x.shape)
        return x @ self.dequantized() + self.bias


class _Dynamic(_ByChannel):
    def forward(self, x: Tensor, *shared: Tensor | None) -> Tensor:
        steps, scale, zero = torch.onnx.ops.symbolic_multi_out(
            "DynamicQuantizeLinear",
            (x,),
            dtypes=(torch.uint8, torch.float32, torch.uint8),
            shapes=(x.shape, (), ()),
        )
        sums = _operator(
            "MatMulInteger",
            (steps, self.weight, zero, self.weight_zero_point),
            dtype=torch.int32,
            shape=(*x.shape[:-1], self.weight.shape[1]),
        )
        return sums.float() * (scale * self.weight_scale) + self.bias


class _Blocks(nn.Module):
    """Weights with a scale for each block of inputs: (O, G, bytes of a block), not negative."""

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: Tensor, *, bits: int) -> None:
        super().__init__()
        self.bits, self.block = bits, weight.shape[-1] * 8 // bits
        self.width = weight.shape[1] * self.block
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", weight_scale)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor, *shared: Tensor | None) -> Tensor:
        outputs = self.weight.shape[0]
        found: Tensor = _operator(
            f"{_MICROSOFT}::MatMulNBits",
            (x, self.weight, self.weight_scale, None, None, self.bias),
            {
                "K": self.width,
                "N": outputs,
                "bits": self.bits,
                "block_size": self.block,
                "accuracy_level": _INT8_COMPUTE,
            },
            dtype=torch.float32,
            shape=(*x.shape[:-1], outputs),
            version=1,
        )
        return found


class _BlockWords(nn.Module):
    """(R, T) ids to (R, T, I), of the blocks that a head's product reads, or of its own."""

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, weight: Tensor, weight_scale: Tensor, *, bits: int) -> None:
        super().__init__()
        self.bits, self.block = bits, weight.shape[-1] * 8 // bits
        self.width = weight.shape[1] * self.block
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", weight_scale)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = _operator(
            f"{_MICROSOFT}::GatherBlockQuantized",
            (self.weight.flatten(1), ids, self.weight_scale),
            {
                "bits": self.bits,
                "block_size": self.block,
                "gather_axis": 0,
                "quantize_axis": 1,
            },
            dtype=torch.float32,
            shape=(*ids.shape, self.width),
            version=1,
        )
        return found


class _Columns(nn.Module):
    """(R, T) ids to (R, T, I), of the columns that the head's product reads."""

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, head: _ByChannel) -> None:
        super().__init__()
        self.register_buffer("weight", head.weight)  # (I, O)
        self.register_buffer("weight_scale", head.weight_scale)

    def forward(self, ids: Tensor) -> Tensor:
        flat = ids.flatten()
        rows, scale = self.weight.index_select(1, flat).T, self.weight_scale.index_select(0, flat)
        found: Tensor = (rows.float() * scale[:, None]).unflatten(0, ids.shape)
        return found


class _Rows(nn.Module):
    """(R, T) ids to (R, T, I), of a table of their own."""

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, weight: Tensor, weight_scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.clone())  # (O, I)
        # Of another shape than a product's, or the exporter writes both as one, which keeps ONNX
        # Runtime from joining the product to MatMulNBits.
        self.register_buffer("weight_scale", weight_scale[:, None].clone())

    def forward(self, ids: Tensor) -> Tensor:
        flat = ids.flatten()
        rows, scale = self.weight.index_select(0, flat), self.weight_scale.index_select(0, flat)
        found: Tensor = (rows.float() * scale).unflatten(0, ids.shape)
        return found
