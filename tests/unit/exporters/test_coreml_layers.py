"""Quantized layers as Core ML has them, against their twins."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from blip_edge.errors import ArtifactError
from blip_edge.exporters.coreml_layers import RoundedInputs, learn_rounding, round_layers
from blip_edge.models.quantized import (
    LayerDecision,
    Quantization,
    QuantizedLinear,
    apply_quantization,
    quantizable_layers,
)
from tests import tiny

# float32 sums of a few dozen terms of size 1, in another order.
FLOAT32 = 1e-4


def static(scale: float, zero: int) -> LayerDecision:
    return LayerDecision(
        decision="int8",
        weight_bits=8,
        activation_bits=8,
        input_scale=scale,
        input_zero_point=zero,
    )


def twin(scale: float, zero: int, sizes: tuple[int, int] = (16, 5)) -> QuantizedLinear:
    linear = nn.Linear(*sizes)
    nn.init.normal_(linear.weight)
    return QuantizedLinear.from_linear(linear, static(scale, zero))


@settings(deadline=None)
@given(
    scale=st.floats(2**-14, 4, width=16),
    zero=st.integers(0, 255),
    steps=st.lists(st.integers(-400, 400), min_size=16, max_size=16),
    beside=st.floats(-0.45, 0.45),
)
def test_inputs_are_rounded_and_cut_as_the_twins_are(
    scale: float, zero: int, steps: list[int], beside: float
) -> None:
    layer = twin(scale, zero)
    x = (torch.tensor(steps) + beside) * scale
    torch.testing.assert_close(
        RoundedInputs(layer, scale)(x), layer(x), rtol=FLOAT32, atol=FLOAT32 * scale
    )
    nothing = torch.zeros(16)
    torch.testing.assert_close(RoundedInputs(layer, scale)(nothing), layer.bias)


def test_steps_that_half_precision_cannot_tell_are_refused() -> None:
    blip = tiny.lively(tiny.config())
    path = next(iter(quantizable_layers(blip)))
    apply_quantization(blip, Quantization(mode="static", layers={path: static(1e-6, 3)}))
    with pytest.raises(ArtifactError, match=rf"{path}: steps of 1e-06 .* activations=float"):
        round_layers(blip)


class _Layers(nn.Module):
    """One zero in the middle of the steps, one at their start, one elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.middle = RoundedInputs(twin(0.03125, 128, (16, 24)), 0.03125)
        self.start = RoundedInputs(twin(0.0625, 0, (24, 24)), 0.0625)
        self.elsewhere = RoundedInputs(twin(0.25, 77, (24, 4)), 0.25)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.elsewhere(self.start(self.middle(x).relu()))
        return y


def test_a_program_quantizes_what_its_products_read(tmp_path: Path) -> None:
    load_spec = pytest.importorskip("coremltools").utils.load_spec

    from blip_edge.runtime.mil import MilProgram
    from tests.unit.runtime.toy_coreml import write_torch

    learn_rounding()
    layers, x = _Layers(), np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    path = write_torch(layers, {"x": x}, ["y"], tmp_path, precision="FLOAT32", target="iOS17")
    function = load_spec(str(path)).mlProgram.functions["main"]
    kinds = [op.type for op in function.block_specializations["CoreML7"].operations]
    pattern = ["quantize", "dequantize", "linear"]
    assert [kind for kind in kinds if kind in pattern] == 3 * pattern
    with torch.no_grad():
        expected = layers(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(MilProgram(path)({"x": x})["y"], expected, rtol=1e-4, atol=1e-3)
