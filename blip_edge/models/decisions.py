"""quantization.json: what is done with each linear layer and word table, so that every reader does
the same.

A layer's form follows from its entry. *static*: weights and inputs are computed with as 8-bit
integers, the input's range is written down. *dynamic*: the same, the range is that of each input
as it comes. *weight-only*: weights are integers of 8 or 4 bits, the product is in floating point.
Forms may be mixed in one model.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from blip_edge.artifact import read_json, write_json
from blip_edge.errors import ArtifactError

__all__ = ["FILE", "Form", "LayerDecision", "Quantization"]

FILE = "quantization.json"
"""Beside a MODEL folder's float weights."""
_FORMAT = 1
_INPUT_MAX = 255
_GROUPS = (16, 32, 64, 128, 256)  # that ONNX Runtime's MatMulNBits has kernels for
Form = Literal["static", "dynamic", "weight-only", "float"]
"""How a layer computes."""


@dataclass(frozen=True, kw_only=True)
class LayerDecision:
    """What is done with one linear layer, or with a table, and why."""

    decision: Literal["int8", "float"]
    """int8: its weights are integers, of `weight_bits`."""
    weight_bits: int = 32
    """8: one scale an output channel; 4: one scale a group of inputs."""
    activation_bits: int = 32
    """8: inputs are integers too; 32: they are not."""
    group_size: int | None = None
    """Inputs that share a scale, of 4-bit weights."""
    input_scale: float | None = None
    """Width of one step of the layer's input; None where inputs are not integers, or their range is
    found anew for each."""
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
        if (self.weight_bits, self.activation_bits) not in ((8, 8), (8, 32), (4, 32)):
            bits = f"{self.weight_bits} and {self.activation_bits}"
            raise ValueError(
                "an int8 layer has 8-bit weights and inputs, or weights of 8 or 4 bits and inputs "
                f"in float (32), not {bits}"
            )
        if self.weight_bits == 4 and self.group_size not in _GROUPS:
            known = ", ".join(map(str, _GROUPS))
            raise ValueError(f"group_size of 4-bit weights is {known}, not {self.group_size!r}")
        if self.weight_bits == 8 and self.group_size is not None:
            raise ValueError(f"8-bit weights have no group_size, got {self.group_size!r}")
        scale, zero = self.input_scale, self.input_zero_point
        if scale is None and zero is None:
            return
        if self.activation_bits == 32:
            raise ValueError("input_scale and input_zero_point are for 8-bit inputs")
        if not _is_number(scale) or not 0 < float(scale or 0) < math.inf:
            raise ValueError(f"input_scale must be a positive number, got {scale!r}")
        if type(zero) is not int or not 0 <= zero <= _INPUT_MAX:
            raise ValueError(f"input_zero_point must be 0 to {_INPUT_MAX}, got {zero!r}")

    @property
    def form(self) -> Form:
        """How the layer computes."""
        if self.decision == "float":
            return "float"
        if self.activation_bits == 32:
            return "weight-only"
        return "dynamic" if self.input_scale is None else "static"

    @property
    def name(self) -> str:
        """Its form, with the bits of its weights where they tell: "weight-only 4"."""
        return f"{self.form} {self.weight_bits}" if self.form == "weight-only" else self.form

    def as_float(self, why: str) -> Self:
        """The decision turned round; what was measured stays."""
        return replace(
            self,
            decision="float",
            weight_bits=32,
            activation_bits=32,
            group_size=None,
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
    """What was asked for; what became of each layer is in `layers`."""
    layers: dict[str, LayerDecision]
    """By the layer's module path in `Blip`, in the network's order; word tables that no head shares
    are among them, and are *weight-only* or float."""
    engine: str = "blip-edge"
    """Who found input ranges: this package, or one that is made for it."""
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
    smoothing: dict[str, float | None] | None = None
    """How much of what makes inputs hard to round was moved into the weights, before they were
    written: α by the path of what makes the input, None where none helped; None if not tried."""
    outliers: dict[str, dict[str, Any]] | None = None
    """By layer: `{"channels", "peak", "far_out"}` of its input, and after smoothing `"smoothed"`
    with the last two; peak is the greatest |x| over that of 99.99 %, far_out counts channels over
    six times the median one."""
    metric: dict[str, Any] | None = None
    """`{"name", "split", "items", "float", "int8", "loss", "tolerance"}`, if it was measured;
    loss is a share of float."""

    @property
    def int8_layers(self) -> list[str]:
        """Paths of the layers whose weights are integers."""
        return [path for path, layer in self.layers.items() if layer.decision == "int8"]

    @property
    def weight_bits(self) -> list[int]:
        """Of those layers: how many bits a weight has, each number once."""
        return sorted({self.layers[path].weight_bits for path in self.int8_layers})

    @property
    def precision(self) -> str:
        """The same in a word: int8, int4, or int4+int8 where both are; fp32 of no such layer."""
        return "+".join(f"int{bits}" for bits in self.weight_bits) or "fp32"

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
        path = Path(folder) / FILE
        return cls.from_json(read_json(path), source=path)

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a MODEL folder was quantized."""
        return (Path(folder) / FILE).is_file()

    def save(self, folder: Path) -> None:
        """Write quantization.json."""
        write_json(Path(folder) / FILE, self.to_json())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
