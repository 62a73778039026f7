"""The twins of dynamic and weight-only layers against brute force, and files that mix forms."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from blip_edge.errors import ArtifactError
from blip_edge.models.quantized import (
    HEAD,
    DynamicLinear,
    GroupedLinear,
    LayerDecision,
    Quantization,
    QuantizedLinear,
    WeightOnlyLinear,
    apply_quantization,
    quantizable_layers,
    twin_of,
    weight_bytes,
)
from blip_edge.models.quantized_layers import dequantize, quantize_groups
from tests.tiny import config, lively

assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)

DYNAMIC = LayerDecision(decision="int8", weight_bits=8, activation_bits=8)
EIGHT = LayerDecision(decision="int8", weight_bits=8)
FOUR = LayerDecision(decision="int8", weight_bits=4, group_size=16)
STATIC = LayerDecision(
    decision="int8", weight_bits=8, activation_bits=8, input_scale=0.02, input_zero_point=128
)


def by_hand(weight: np.ndarray, group: int) -> np.ndarray:
    """Every group rounded by itself, in double precision."""
    out = np.empty_like(weight, dtype=np.float64)
    for o in range(weight.shape[0]):
        for start in range(0, weight.shape[1], group):
            part = weight[o, start : start + group].astype(np.float64)
            scale = np.abs(part).max() / 7 or 1.0
            out[o, start : start + group] = np.clip(np.round(part / scale), -7, 7) * scale
    return out


@given(seed=st.integers(0, 1000), groups=st.integers(1, 4), group=st.sampled_from([16, 32]))
def test_4_bits_are_each_group_rounded_by_itself(seed: int, groups: int, group: int) -> None:
    weight = np.random.default_rng(seed).standard_normal((3, groups * group)).astype(np.float32)
    weight[0, :group] *= 1000  # costs no other group its precision
    packed, scale = quantize_groups(torch.from_numpy(weight), group)
    assert packed.dtype == torch.uint8 and packed.shape == (3, groups, group // 2)
    np.testing.assert_allclose(dequantize(packed, scale), by_hand(weight, group), rtol=1e-5)


def test_a_byte_holds_two_numbers_the_lower_half_first() -> None:
    weight = torch.zeros(1, 16)
    weight[0, 0], weight[0, 1], weight[0, 2] = 7.0, -7.0, 3.0
    packed, scale = quantize_groups(weight, 16)
    assert packed[0, 0, :2].tolist() == [0x1F, 0x8B] and scale.tolist() == [[1.0]]


def test_rounding_what_was_rounded_changes_nothing() -> None:
    """Converters that find scales themselves must find ours."""
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    for layer in (twin_of(linear(weight), EIGHT), twin_of(linear(weight), FOUR)):
        again = dequantize(*quantize_groups(layer.dequantize_weight(), 16))
        if isinstance(layer, GroupedLinear):
            assert_close(again, layer.dequantize_weight(), rtol=1e-6, atol=0)
        eight = twin_of(linear(layer.dequantize_weight()), EIGHT)
        if not isinstance(layer, GroupedLinear):
            assert torch.equal(eight.weight, layer.weight)


def linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data = weight
    return layer


def test_weight_only_layers_read_their_inputs_as_they_are() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(32, 9), torch.randn(2, 3, 32) * 100
    for decision, kind in ((EIGHT, WeightOnlyLinear), (FOUR, GroupedLinear)):
        twin = twin_of(layer, decision)
        assert type(twin) is kind and (twin.in_features, twin.out_features) == (32, 9)
        assert_close(twin(x), nn.functional.linear(x, twin.dequantize_weight(), layer.bias))
        assert not torch.equal(twin(x), layer(x))


@given(seed=st.integers(0, 1000), shift=st.floats(-5, 5))
def test_a_dynamic_input_is_a_static_one_of_its_own_range(seed: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 4, 32, generator=generator) + shift
    layer = linear(torch.randn(5, 32, generator=generator))
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = float(np.float32(np.float32(high - low) / np.float32(255)))
    zero = int(np.clip(np.round(np.float32(-low) / np.float32(scale)), 0, 255))
    static = LayerDecision(
        decision="int8",
        weight_bits=8,
        activation_bits=8,
        input_scale=scale,
        input_zero_point=zero,
    )
    want = QuantizedLinear.from_linear(layer, static).read(x)
    got = DynamicLinear.from_linear(layer).read(x)
    # A range of another rounding may move a value by one step.
    assert float((got - want).abs().max()) <= scale * 1.001
    assert float((got - want).abs().mean()) < 0.01 * scale
    assert float((got - x).abs().max()) <= scale * 0.5001 + 1e-6


def test_a_dynamic_input_of_zeros_stays_zero() -> None:
    twin = DynamicLinear.from_linear(nn.Linear(16, 4))
    assert torch.equal(twin(torch.zeros(1, 2, 16)), twin.bias.expand(1, 2, 4))


def test_the_head_and_its_table_are_the_same_integers_in_4_bits() -> None:
    blip, ids = lively(config()), torch.tensor([[3, 17, 39]])
    words = blip.decoder.bert.embeddings.word_embeddings.weight.detach()
    rounded = torch.from_numpy(by_hand(words.numpy(), 16)).float()
    apply_quantization(blip, Quantization(mode="weight-only", layers={HEAD: FOUR}))
    assert_close(blip.decoder.bert.embeddings.word_embeddings(ids), rounded[ids])
    head, x = blip.get_submodule(HEAD), torch.randn(2, 16)
    assert_close(head(x) - head(torch.zeros(2, 16)), x @ rounded.T)


def test_forms_can_be_mixed_in_one_network_and_one_file(tmp_path: Path) -> None:
    blip = lively(config())
    kinds = [STATIC, DYNAMIC, EIGHT, FOUR, LayerDecision(decision="float", why="fall-back")]
    whole = [p for p, m in quantizable_layers(blip).items() if m.in_features % 16 == 0]
    layers = {path: kinds[number % 5] for number, path in enumerate(whole)}
    want = Quantization(mode="static", layers=layers)
    want.save(tmp_path)
    assert Quantization.load(tmp_path) == want
    assert [layers[p].form for p in whole[:5]] == [
        "static",
        "dynamic",
        "weight-only",
        "weight-only",
        "float",
    ]
    apply_quantization(blip, want)
    twins = {p: type(blip.get_submodule(p)) for p in whole[:5]}
    assert list(twins.values()) == [
        QuantizedLinear,
        DynamicLinear,
        WeightOnlyLinear,
        GroupedLinear,
        nn.Linear,
    ]


def test_a_file_of_before_there_were_modes_still_opens(tmp_path: Path) -> None:
    path = "vision_model.encoder.layers.0.self_attn.qkv"
    entry = {
        "decision": "int8",
        "weight_bits": 8,
        "activation_bits": 8,
        "input_scale": 0.02,
        "input_zero_point": 128,
        "input_range": [-2.5, 2.5],
        "sqnr_db": None,
        "why": "range by mse",
    }
    document = {"format_version": 1, "mode": "static", "layers": {path: entry}}
    found = Quantization.from_json(document, source="here")
    assert found.layers[path].form == "static" and found.layers[path].input_range == (-2.5, 2.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"group_size": 24}, "group_size of 4-bit"),
        ({"group_size": None}, "group_size of 4-bit"),
        ({"activation_bits": 8}, "not 4 and 8"),
        ({"weight_bits": 2}, "not 2 and 32"),
        ({"weight_bits": 8}, "8-bit weights have no group_size"),
        ({"input_scale": 0.1}, "for 8-bit inputs"),
        ({"input_zero_point": 3}, "for 8-bit inputs"),
    ],
)
def test_a_weight_only_decision_that_makes_no_sense_is_refused(
    changes: dict[str, Any], said: str
) -> None:
    document = Quantization(mode="weight-only", layers={HEAD: FOUR}).to_json()
    document["layers"][HEAD] |= changes
    with pytest.raises(ArtifactError, match=said):
        Quantization.from_json(document, source="here")


def test_half_a_range_is_none() -> None:
    with pytest.raises(ValueError, match="input_zero_point"):
        LayerDecision(decision="int8", weight_bits=8, activation_bits=8, input_scale=0.1)


def test_groups_that_do_not_divide_a_layers_inputs_are_named() -> None:
    blip = lively(config())
    odd = LayerDecision(decision="int8", weight_bits=4, group_size=256)
    path = next(iter(quantizable_layers(blip)))
    with pytest.raises(ArtifactError, match=f"{path}: 32 inputs are no whole number"):
        apply_quantization(blip, Quantization(mode="weight-only", layers={path: odd}))


def test_4_bits_are_half_a_byte_a_weight_and_a_scale_a_group() -> None:
    blip = lively(config())
    layers = quantizable_layers(blip)
    before = weight_bytes(blip)
    whole = {p: m for p, m in layers.items() if m.in_features % 16 == 0}
    numbers = sum(layer.weight.numel() for layer in whole.values())
    apply_quantization(blip, Quantization(mode="weight-only", layers=dict.fromkeys(whole, FOUR)))
    assert weight_bytes(blip) == before - 4 * numbers + numbers // 2 + 4 * numbers // 16
