"""Linear layers that compute in torch as their exported graphs will on a device: one class a form.

Weights in 8 bits are symmetric per output channel, w = s_o · q with s_o = max|w_o| / 127 and q in
[-127, 127]; in 4 bits symmetric per group of adjacent inputs of an output channel, with
s = max|w| / 7 and q in [-7, 7]. 8-bit inputs are affine per tensor, x = s · (q - z) with q and z in
[0, 255], so that zero is exact. Rounding is to nearest, ties to even, as in ONNX's QuantizeLinear.

Four bits are kept as ONNX Runtime's MatMulNBits keeps them, two a byte, the lower half first, 8
added to each: OpenVINO's u4 and Core ML's int4 hold the same values.
"""

from typing import Self, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.decisions import LayerDecision

__all__ = [
    "DynamicLinear",
    "GroupedLinear",
    "QuantizedLayer",
    "QuantizedLinear",
    "QuantizedWords",
    "WeightOnlyLinear",
    "dequantize",
    "quantize_groups",
    "quantize_weight",
    "twin_of",
]

# O output channels · I input channels · G groups of an output channel · g inputs of a group
_WEIGHT_MAX, _INPUT_MAX = 127, 255
_NIBBLE_MAX, _NIBBLE_ZERO = 7, 8


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(O, I) float weights to (O, I) int8 and (O,) float32 scales, w ≈ scale_o · q.

    A channel of zeros has scale 1, so that nothing divides by zero.
    """
    steps, scale = _symmetric(weight, _WEIGHT_MAX)
    return steps.to(torch.int8), scale


def quantize_groups(weight: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """(O, I) float weights to (O, G, g / 2) uint8 of two 4-bit numbers each, and (O, G) scales.

    Raises:
        ValueError: the inputs are no whole number of groups.
    """
    inputs = weight.shape[1]
    if inputs % group_size:
        raise ValueError(f"{inputs} inputs are no whole number of groups of {group_size}")
    steps, scale = _symmetric(weight.unflatten(1, (-1, group_size)), _NIBBLE_MAX)
    nibbles = (steps + _NIBBLE_ZERO).to(torch.uint8)
    return nibbles[..., 0::2] | nibbles[..., 1::2] << 4, scale


def _symmetric(weight: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Whole numbers in [-most, most] and the scale of each last axis."""
    weight = weight.detach().float()
    scale = weight.abs().amax(dim=-1) / most
    scale = torch.where(scale > torch.finfo(torch.float32).tiny, scale, 1.0)
    return torch.round(weight / scale[..., None]).clamp(-most, most), scale


def dequantize(weight: Tensor, scale: Tensor) -> Tensor:
    """The float32 numbers (…, I) that integers stand for, of 8 bits (…, I) or packed (…, G, g / 2).

    Args:
        weight: int8, or uint8 with two numbers each.
        scale: (…), or (…, G).
    """
    if weight.dtype == torch.int8:
        return weight.float() * scale[..., None]
    halves = torch.stack((weight & 15, weight >> 4), -1).flatten(-2)
    return ((halves.float() - _NIBBLE_ZERO) * scale[..., None]).flatten(-2)


class QuantizedLayer(nn.Module):
    """A linear layer whose weights are integers; how its inputs are read is its class's to say.

    Buffers: weight and weight_scale as `dequantize` takes them, bias (O,) float32.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", weight_scale)
        self.register_buffer("bias", bias)
        self._unpacked: tuple[tuple[int, torch.device], Tensor] | None = None

    @property
    def out_features(self) -> int:
        """O."""
        return self.bias.shape[0]

    @property
    def in_features(self) -> int:
        """I."""
        packed = self.weight.dtype == torch.uint8
        return self.weight[0].numel() * (2 if packed else 1)

    def dequantize_weight(self) -> Tensor:
        """The (O, I) float32 weights that the integers stand for."""
        return dequantize(self.weight, self.weight_scale)

    def read(self, x: Tensor) -> Tensor:
        """The inputs (…, I) as the product sees them."""
        return x

    def forward(self, x: Tensor, *shared: Tensor | None) -> Tensor:
        """(…, I) to (…, O); the float weights that a head is handed are not looked at."""
        return F.linear(self.read(x), self._float_weight(), self.bias)

    def _float_weight(self) -> Tensor:
        """`dequantize_weight`, once: to unpack takes longer than a decoding step's product."""
        now = self.weight._version, self.weight.device
        if self._unpacked is None or self._unpacked[0] != now:
            self._unpacked = now, self.dequantize_weight()
        return self._unpacked[1]

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


class WeightOnlyLinear(QuantizedLayer):
    """8-bit weights, inputs in float: y = x · w_qᵀ + b."""

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> Self:
        """The same layer with 8-bit weights; `linear` is left as it is."""
        return cls(*quantize_weight(linear.weight), _bias(linear))


class GroupedLinear(QuantizedLayer):
    """4-bit weights in groups, inputs in float: y = x · w_qᵀ + b."""

    @classmethod
    def from_linear(cls, linear: nn.Linear, group_size: int) -> Self:
        """The same layer with 4-bit weights; `linear` is left as it is.

        Raises:
            ValueError: the inputs are no whole number of groups.
        """
        return cls(*quantize_groups(linear.weight, group_size), _bias(linear))

    @property
    def group_size(self) -> int:
        """g."""
        return 2 * self.weight.shape[-1]


class DynamicLinear(WeightOnlyLinear):
    """8-bit weights and inputs, the range that of each input tensor: y = x_q · w_qᵀ + b.

    As ONNX's DynamicQuantizeLinear: of all rows together, zero always in the range.
    """

    def read(self, x: Tensor) -> Tensor:
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        scale = (high - low) / _INPUT_MAX
        scale = torch.where(scale > 0, scale, 1.0)
        zero = torch.round(-low / scale).clamp(0, _INPUT_MAX)
        return ((torch.round(x / scale) + zero).clamp(0, _INPUT_MAX) - zero) * scale


class QuantizedLinear(QuantizedLayer):
    """8-bit weights and inputs, the range fixed beforehand: y = x_q · w_qᵀ + b.

    Buffers beside those of every quantized layer: input_scale () float32 and input_zero_point ()
    uint8.
    """

    input_scale: Tensor
    input_zero_point: Tensor

    def __init__(
        self,
        weight: Tensor,
        weight_scale: Tensor,
        bias: Tensor,
        input_scale: float,
        input_zero_point: int,
    ) -> None:
        super().__init__(weight, weight_scale, bias)
        self.register_buffer("input_scale", torch.tensor(input_scale))
        self.register_buffer("input_zero_point", torch.tensor(input_zero_point, dtype=torch.uint8))

    @classmethod
    def from_linear(cls, linear: nn.Linear, decision: LayerDecision) -> Self:
        """The same layer in 8 bits; `linear` is left as it is.

        Raises:
            ValueError: the decision is another than to compute in 8 bits with a fixed range.
        """
        scale, zero = decision.input_scale, decision.input_zero_point
        if decision.form != "static" or scale is None or zero is None:
            raise ValueError(f"a layer that stays in {decision.form} has no static 8-bit twin")
        layer = cls(*quantize_weight(linear.weight), _bias(linear), scale, zero)
        return layer.to(linear.weight.device)

    def quantize_input(self, x: Tensor) -> Tensor:
        """x to its steps, whole numbers in [0, 255] kept in float."""
        zero = self.input_zero_point.to(x.dtype)
        return (torch.round(x / self.input_scale) + zero).clamp(0, _INPUT_MAX)

    def read(self, x: Tensor) -> Tensor:
        zero = self.input_zero_point.to(x.dtype)
        return (self.quantize_input(x) - zero) * self.input_scale


class QuantizedWords(nn.Module):
    """A word table of integers, those of a head or its own: ids (…) to rows (…, I).

    Buffers: weight and weight_scale as `dequantize` takes them, a word for each output channel.
    """

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, weight: Tensor, weight_scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", weight_scale)

    @classmethod
    def from_table(cls, table: nn.Embedding, decision: LayerDecision) -> Self:
        """The same table in integers; `table` is left as it is.

        Raises:
            ValueError: the decision is another than to store integers, or rows are no whole number
                of its groups.
        """
        if decision.form != "weight-only":
            raise ValueError(f"a table multiplies nothing: it cannot be {decision.form}")
        if decision.group_size is None:
            return cls(*quantize_weight(table.weight))
        return cls(*quantize_groups(table.weight, decision.group_size))

    def forward(self, ids: Tensor) -> Tensor:
        return dequantize(self.weight[ids], self.weight_scale[ids])


@overload
def twin_of(layer: nn.Linear, decision: LayerDecision) -> QuantizedLayer: ...
@overload
def twin_of(layer: nn.Embedding, decision: LayerDecision) -> QuantizedWords: ...
def twin_of(
    layer: nn.Linear | nn.Embedding, decision: LayerDecision
) -> QuantizedLayer | QuantizedWords:
    """The layer, or table, that computes as `decision` says; `layer` is left as it is.

    Raises:
        ValueError: the layer stays in float, its inputs are no whole number of groups, or a table
            is to have integers for inputs.
    """
    if isinstance(layer, nn.Embedding):
        return QuantizedWords.from_table(layer, decision)
    return _linear_twin(layer, decision)


def _linear_twin(linear: nn.Linear, decision: LayerDecision) -> QuantizedLayer:
    if decision.form == "dynamic":
        return DynamicLinear.from_linear(linear)
    if decision.form == "weight-only" and decision.group_size is not None:
        return GroupedLinear.from_linear(linear, decision.group_size)
    if decision.form == "weight-only":
        return WeightOnlyLinear.from_linear(linear)
    return QuantizedLinear.from_linear(linear, decision)


def _bias(linear: nn.Linear) -> Tensor:
    """A copy of the layer's bias, zeros if it has none."""
    if linear.bias is None:
        return linear.weight.new_zeros(linear.out_features, dtype=torch.float32)
    return linear.bias.detach().float().clone()
