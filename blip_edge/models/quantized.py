"""Which layers compute in 8 bits, and a layer that computes as they will on a device.

`quantize` decides, writes `quantization.json` beside the float weights, and every reader derives
the same integers from the two: the exporters write them into graphs, and `QuantizedLinear` is
their twin in torch, so that a model is measured at the precision that it will have.

The scheme. Weights are symmetric per output channel, w = s_o · q with s_o = max|w_o| / 127 and q in
[-127, 127]. Inputs are affine per tensor, x = s · (q - z) with q and z in [0, 255], so that zero is
exact. Rounding is to nearest, ties to even, as in ONNX's QuantizeLinear. The linear layers inside
the towers' blocks take part, and the language-model head, which is most of what a decoding step
reads; the word table that it shares is rounded with it. Patch embedding, LayerNorm, softmax, the
products of attention and the projections lose the most and cost the least.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.artifact import read_json, write_json
from blip_edge.errors import ArtifactError
from blip_edge.models.bert import WordProduct
from blip_edge.models.blip import Blip

__all__ = [
    "HEAD",
    "LayerDecision",
    "Quantization",
    "QuantizedLinear",
    "QuantizedWords",
    "apply_quantization",
    "quantizable_layers",
    "quantize_weight",
    "weight_bytes",
]

# O output channels · I input channels
_FILE = "quantization.json"
_FORMAT = 1
_WEIGHT_MAX, _INPUT_MAX = 127, 255
HEAD = "text_decoder.cls.predictions.decoder"
"""The path of the language-model head."""
_WORDS = "text_decoder.bert.embeddings.word_embeddings"
_IN_A_BLOCK = re.compile(r"(^|\.)encoder\.layers?\.\d+\.")  # the image tower's, the text tower's


@dataclass(frozen=True, kw_only=True)
class LayerDecision:
    """What is done with one linear layer, and why."""

    decision: Literal["int8", "float"]
    weight_bits: int = 32
    activation_bits: int = 32
    input_scale: float | None = None
    """Width of one step of the layer's input; None in a float layer."""
    input_zero_point: int | None = None
    """The step that stands for zero, 0 to 255."""
    input_range: tuple[float, float] | None = None
    """Smallest and largest input that the steps were chosen for."""
    sqnr_db: float | None = None
    """Signal to quantisation noise of the layer's output, if it was measured."""
    why: str = ""

    def __post_init__(self) -> None:
        if self.decision not in ("int8", "float"):
            raise ValueError(f'decision is "int8" or "float", not {self.decision!r}')
        if self.decision == "float":
            return
        if (self.weight_bits, self.activation_bits) != (8, 8):
            bits = f"{self.weight_bits} and {self.activation_bits}"
            raise ValueError(f"an int8 layer has 8-bit weights and inputs, not {bits}")
        scale, zero = self.input_scale, self.input_zero_point
        if not _is_number(scale) or not 0 < float(scale or 0) < math.inf:
            raise ValueError(f"input_scale must be a positive number, got {scale!r}")
        if type(zero) is not int or not 0 <= zero <= _INPUT_MAX:
            raise ValueError(f"input_zero_point must be 0 to {_INPUT_MAX}, got {zero!r}")

    def as_float(self, why: str) -> Self:
        """The decision turned round; what was measured stays."""
        return replace(
            self,
            decision="float",
            weight_bits=32,
            activation_bits=32,
            input_scale=None,
            input_zero_point=None,
            why=why,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read one layer's entry.

        Raises:
            TypeError: a field is missing or unknown.
            ValueError: a field's value makes no sense.
        """
        pair = values.get("input_range")
        return cls(**{**values, "input_range": None if pair is None else (pair[0], pair[1])})


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """All of quantization.json."""

    mode: str
    layers: dict[str, LayerDecision]
    """By the layer's module path in `Blip`, in the network's order."""
    observer: str = ""
    """How input ranges were taken from what was seen."""
    samples: int = 0
    """Pictures that were seen."""
    data: dict[str, Any] | None = None
    """`{"name", "sha256", "items"}` of the data set that they came from."""
    weight_bytes: int = 0
    """All weights and scales at the decided precisions."""
    float_weight_bytes: int = 0
    """All weights in float32."""
    metric: dict[str, Any] | None = None
    """`{"name", "split", "items", "float", "int8", "loss", "tolerance"}`, if it was measured;
    loss is a share of float."""

    @property
    def int8_layers(self) -> list[str]:
        """Paths of the layers that compute in 8 bits."""
        return [path for path, layer in self.layers.items() if layer.decision == "int8"]

    def to_json(self) -> dict[str, Any]:
        """The document, the short fields first."""
        values = {"format_version": _FORMAT, **asdict(self)}
        return {**{k: v for k, v in values.items() if k != "layers"}, "layers": values["layers"]}

    @classmethod
    def from_json(cls, document: Any, *, source: Path | str) -> Self:
        """Read the document; `source` is named in errors.

        Raises:
            ArtifactError: it has another form, or a decision in it makes no sense.
        """
        if not isinstance(document, dict) or document.get("format_version") != _FORMAT:
            raise ArtifactError(f"{source} is not a quantization of format {_FORMAT}")
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in document.items() if key in known}
        if not isinstance(values.get("layers"), dict):
            raise ArtifactError(f"{source} does not say what was decided for which layer")
        layers = {}
        for path, entry in values["layers"].items():
            try:
                layers[path] = LayerDecision.from_json(entry)
            except (TypeError, ValueError, AttributeError, IndexError) as error:
                raise ArtifactError(f"{source}: layer {path}: {error}") from None
        try:
            return cls(**{**values, "layers": layers})
        except TypeError as error:
            raise ArtifactError(f"{source}: {error}") from None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a MODEL folder's quantization.json.

        Raises:
            ArtifactError: it is missing or damaged.
        """
        path = Path(folder) / _FILE
        return cls.from_json(read_json(path), source=path)

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a MODEL folder was quantized."""
        return (Path(folder) / _FILE).is_file()

    def save(self, folder: Path) -> None:
        """Write quantization.json."""
        write_json(Path(folder) / _FILE, self.to_json())


def quantizable_layers(blip: Blip) -> dict[str, nn.Linear]:
    """The layers that may compute in 8 bits, by path, in the network's order.

    Those inside the towers' blocks, a shared one once and empty ones never, and the language-model
    head as a layer around the weights that it shares.
    """
    layers = {}
    for path, module in blip.named_modules():
        if isinstance(module, WordProduct):
            layers[path] = _head(blip)
        elif isinstance(module, nn.Linear) and _IN_A_BLOCK.search(path) and module.weight.numel():
            layers[path] = module
    return layers


def _head(blip: Blip) -> nn.Linear:
    words = blip.decoder.bert.embeddings.word_embeddings.weight
    layer = nn.Linear(words.shape[1], words.shape[0], device="meta")
    layer.weight, layer.bias = words, blip.decoder.cls.predictions.bias
    return layer


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(O, I) float weights to (O, I) int8 and (O,) float32 scales, w ≈ scale_o · q.

    A channel of zeros has scale 1, so that nothing divides by zero.
    """
    weight = weight.detach().float()
    scale = weight.abs().amax(dim=1) / _WEIGHT_MAX
    scale = torch.where(scale > torch.finfo(torch.float32).tiny, scale, 1.0)
    steps = torch.round(weight / scale[:, None]).clamp(-_WEIGHT_MAX, _WEIGHT_MAX)
    return steps.to(torch.int8), scale


class QuantizedLinear(nn.Module):
    """A linear layer with 8-bit weights and inputs, computed in float: y = x_q · w_qᵀ + b.

    Buffers: weight (O, I) int8, weight_scale (O,), input_scale () and bias (O,) float32,
    input_zero_point () uint8.
    """

    weight: Tensor
    weight_scale: Tensor
    input_scale: Tensor
    input_zero_point: Tensor
    bias: Tensor

    def __init__(self, out_features: int, in_features: int) -> None:
        super().__init__()
        self.out_features, self.in_features = out_features, in_features
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(out_features))
        self.register_buffer("input_scale", torch.tensor(1.0))
        self.register_buffer("input_zero_point", torch.tensor(0, dtype=torch.uint8))
        self.register_buffer("bias", torch.zeros(out_features))
        self._unpacked: tuple[tuple[int, torch.device], Tensor] | None = None

    @classmethod
    def from_linear(cls, linear: nn.Linear, decision: LayerDecision) -> Self:
        """The same layer in 8 bits; `linear` is left as it is.

        Raises:
            ValueError: the decision is to leave the layer in float.
        """
        if decision.decision != "int8":
            raise ValueError("a layer that stays in float has no 8-bit twin")
        assert decision.input_scale is not None and decision.input_zero_point is not None
        out = cls(linear.out_features, linear.in_features)
        steps, scale = quantize_weight(linear.weight)
        out.weight.copy_(steps)
        out.weight_scale.copy_(scale)
        out.input_scale.fill_(decision.input_scale)
        out.input_zero_point.fill_(decision.input_zero_point)
        if linear.bias is not None:
            out.bias.copy_(linear.bias.detach())
        return out.to(linear.weight.device)

    def quantize_input(self, x: Tensor) -> Tensor:
        """x to its steps, whole numbers in [0, 255] kept in float."""
        zero = self.input_zero_point.to(x.dtype)
        return (torch.round(x / self.input_scale) + zero).clamp(0, _INPUT_MAX)

    def dequantize_weight(self) -> Tensor:
        """The (O, I) float32 weights that the integers stand for."""
        return self.weight.float() * self.weight_scale[:, None]

    def forward(self, x: Tensor, *shared: Tensor | None) -> Tensor:
        """(…, I) to (…, O); the float weights that a head is handed are not looked at."""
        zero = self.input_zero_point.to(x.dtype)
        x = (self.quantize_input(x) - zero) * self.input_scale
        return F.linear(x, self._float_weight(), self.bias)

    def _float_weight(self) -> Tensor:
        """`dequantize_weight`, once: to unpack takes longer than a decoding step's product."""
        now = self.weight._version, self.weight.device
        if self._unpacked is None or self._unpacked[0] != now:
            self._unpacked = now, self.dequantize_weight()
        return self._unpacked[1]

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


class QuantizedWords(nn.Module):
    """The word table of a head in 8 bits: ids (…) to rows (…, I), w ≈ s_o · q."""

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, head: QuantizedLinear) -> None:
        super().__init__()
        self.register_buffer("weight", head.weight)
        self.register_buffer("weight_scale", head.weight_scale)

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight[ids].float() * self.weight_scale[ids][..., None]


def apply_quantization(
    blip: Blip, quantization: Quantization, *, source: Path | str = _FILE
) -> Blip:
    """Replace, in place, the layers that were decided as int8; returns `blip`.

    Raises:
        ArtifactError: a decision names a layer that this network has not; `source` is named.
    """
    layers = quantizable_layers(blip)
    unknown = [path for path in quantization.layers if path not in layers]
    if unknown:
        raise ArtifactError(
            f"{source}: {unknown[0]!r} is no layer of this model that can be quantized "
            f"({len(unknown)} such names); run `blip-edge quantize` on the model again"
        )
    for path in quantization.int8_layers:
        twin = QuantizedLinear.from_linear(layers[path], quantization.layers[path])
        blip.set_submodule(path, twin, strict=True)
        if path == HEAD:
            blip.set_submodule(_WORDS, QuantizedWords(twin), strict=True)
            blip.decoder.cls.predictions.register_parameter("bias", None)  # the twin has it
    return blip


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights and scales as they are held, shared ones counted once."""
    return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
