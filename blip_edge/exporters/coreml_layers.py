"""Quantized layers as a Core ML program computes them: in half precision, around integers.

Weights become integers after the conversion, see `coreml`; the layers here already have the values
that those stand for. What rounds a layer's inputs is written as `quantize` and `dequantize` before
its `linear`, which is the pattern that coremltools makes of calibrated activations, and that Neural
Engines which can run as one product of integers.

    https://apple.github.io/coremltools/docs-guides/source/opt-quantization-overview.html
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blip_edge.errors import ArtifactError, import_extra
from blip_edge.models.bert import WordProduct
from blip_edge.models.blip import Blip
from blip_edge.models.quantized import HEAD, QuantizedLayer, QuantizedLinear, QuantizedWords
from blip_edge.models.quantized_layers import dequantize

__all__ = ["RoundedInputs", "RoundedWeights", "RoundedWords", "learn_rounding", "round_layers"]

_LOW, _HIGH = -128, 127  # int8; the twin counts its steps from 0


def round_layers(blip: Blip) -> Blip:
    """Let layers with integers, in place, compute in float with what their integers stand for.

    Raises:
        ArtifactError: a layer's inputs have steps that half precision cannot tell.
    """
    for path, module in list(blip.named_modules()):
        if isinstance(module, QuantizedWords):
            blip.set_submodule(path, RoundedWords(module))
        elif isinstance(module, QuantizedLayer) and path == HEAD:
            # The head reads its table again, so that the file holds it once.
            blip.decoder.cls.predictions.bias = nn.Parameter(module.bias)
            blip.set_submodule(HEAD, WordProduct())
        elif isinstance(module, QuantizedLayer):
            blip.set_submodule(path, _rounded(path, module))
    return blip


def _rounded(path: str, layer: QuantizedLayer) -> "RoundedWeights":
    if not isinstance(layer, QuantizedLinear):
        return RoundedWeights(layer)
    scale, half = np.float16(layer.input_scale.item()), np.finfo(np.float16)
    if not half.tiny <= scale <= half.max:
        raise ArtifactError(
            f"{path}: steps of {layer.input_scale.item():.2g} are none in half precision; export "
            "with activations=float"
        )
    return RoundedInputs(layer, float(scale))


class RoundedWeights(nn.Linear):
    """A layer in float whose weights are those that integers stand for."""

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__(layer.in_features, layer.out_features)
        self.weight.data.copy_(layer.dequantize_weight())
        self.bias.data.copy_(layer.bias)
        self.group = _group(layer.weight)
        self.eval()


class RoundedInputs(RoundedWeights):
    """The same, its inputs rounded to the steps of a fixed range.

    Args:
        layer: whose range it is.
        scale: the width of a step, as half precision has it: so it is in the file.
    """

    def __init__(self, layer: QuantizedLinear, scale: float) -> None:
        super().__init__(layer)
        self.scale, self.zero = scale, int(layer.input_zero_point) + _LOW

    def forward(self, input: Tensor) -> Tensor:
        """(…, I) to (…, O)."""
        rounded = torch.fake_quantize_per_tensor_affine(input, self.scale, self.zero, _LOW, _HIGH)
        return super().forward(rounded)


class RoundedWords(nn.Embedding):
    """A word table in float, of rows that integers stand for."""

    def __init__(self, words: QuantizedWords) -> None:
        table = dequantize(words.weight, words.weight_scale)
        super().__init__(table.shape[0], table.shape[1], _weight=table)
        self.group = _group(words.weight)
        self.eval()


def _group(weight: Tensor) -> int | None:
    """Inputs that share a scale, of packed weights."""
    return 2 * weight.shape[-1] if weight.dtype == torch.uint8 else None


def learn_rounding() -> None:
    """Teach coremltools the one operation of `RoundedInputs` that it does not convert by itself."""
    register = import_extra("coremltools.converters.mil", "coreml").register_torch_op
    register(fake_quantize_per_tensor_affine, override=True)


def fake_quantize_per_tensor_affine(context: Any, node: Any) -> None:
    """torch's operation of that name, by which coremltools finds it."""
    builder = import_extra("coremltools.converters.mil", "coreml").Builder
    x, scale, zero, _, _ = (context[name] for name in node.inputs)
    steps = {"scale": np.float32(scale.val), "zero_point": np.int8(zero.val)}
    codes = builder.quantize(input=x, output_dtype="int8", **steps)
    context.add(builder.dequantize(input=codes, name=node.name, **steps))
