"""The 8-bit layer against hand computation and torch's own formula, and quantization.json."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from blip_edge.errors import ArtifactError
from blip_edge.generation import Generation
from blip_edge.models import Blip, BlipConfig, Model, TextConfig, VisionConfig, build
from blip_edge.models.config import Architecture
from blip_edge.models.folder import load_model, save_model
from blip_edge.models.quantized import (
    HEAD,
    LayerDecision,
    Quantization,
    QuantizedLinear,
    QuantizedWords,
    apply_quantization,
    is_table,
    quantizable_layers,
    quantizable_tables,
    quantize_weight,
    weight_bytes,
)
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer

# float32 sums in another order.
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
QKV = "vision_model.encoder.layers.0.self_attn.qkv"
TABLE = LayerDecision(decision="int8", weight_bits=8)
QUERY = "text_decoder.bert.encoder.layer.0.crossattention.self.query"


def int8(scale: float = 0.02, zero: int = 128) -> LayerDecision:
    return LayerDecision(
        decision="int8",
        weight_bits=8,
        activation_bits=8,
        input_scale=scale,
        input_zero_point=zero,
        input_range=(-2.5, 2.5),
        sqnr_db=31.5,
        why="a test",
    )


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    return layer


def network(architecture: Any = "BlipForConditionalGeneration") -> Blip:
    """Tiny, with weights so large that a lost layer shows."""
    torch.manual_seed(5)
    vision = VisionConfig(
        image_size=16,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    text = TextConfig(
        vocab_size=40,
        max_position_embeddings=16,
        hidden_size=32,
        encoder_hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    config = BlipConfig(vision_config=vision, text_config=text, architecture=architecture)
    blip = build(config).eval()
    for name, parameter in blip.named_parameters():
        if "norm" not in name.lower():
            nn.init.normal_(parameter, std=0.2)
    return blip


def everything(blip: Blip) -> Quantization:
    return Quantization(mode="static", layers={path: int8() for path in quantizable_layers(blip)})


@torch.no_grad()
def logits(blip: Blip) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 3, 16, 16, generator=generator)
    ids = torch.randint(5, 40, (2, 6), generator=generator)
    return blip.lm_logits(ids, blip.vision_model(pixels))


def test_forward_is_what_the_integers_give_by_hand() -> None:
    # s_o = 1.27/127 = 0.01 and 2.54/127 = 0.02: q = [[127, -50], [-127, 3]] (0.05/0.02 = 2.5
    # would tie; 0.06/0.02 = 3 does not).
    layer = linear([[1.27, -0.5], [-2.54, 0.06]], [0.25, -1.0])
    twin = QuantizedLinear.from_linear(layer, int8(scale=0.1, zero=10))
    assert twin.weight.tolist() == [[127, -50], [-127, 3]]
    assert twin.weight_scale.tolist() == pytest.approx([0.01, 0.02])
    # 0.33/0.1 + 10 -> 13; -5/0.1 + 10 -> -40, clipped to 0.
    x = torch.tensor([[0.33, -5.0]])
    assert twin.quantize_input(x).tolist() == [[13.0, 0.0]]
    sums = [127 * 3 + -50 * -10, -127 * 3 + 3 * -10]  # exact, as int32 would have them
    want = [[sums[0] * 0.1 * 0.01 + 0.25, sums[1] * 0.1 * 0.02 - 1.0]]
    assert_close(twin(x), torch.tensor(want))


def test_forward_is_torchs_fake_quantization() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(48, 20), torch.randn(7, 5, 48) * 1.5
    twin = QuantizedLinear.from_linear(layer, int8(scale=0.0131, zero=93))
    steps, scale = quantize_weight(layer.weight)
    weight = torch.fake_quantize_per_channel_affine(
        layer.weight.detach(), scale, torch.zeros(20, dtype=torch.int32), 0, -127, 127
    )
    inputs = torch.fake_quantize_per_tensor_affine(x, 0.0131, 93, 0, 255)
    torch.testing.assert_close(twin.dequantize_weight(), weight, rtol=0, atol=1e-7)
    assert_close(twin(x), nn.functional.linear(inputs, weight, layer.bias))
    assert steps.dtype == torch.int8 and not torch.equal(twin(x), layer(x))


def test_each_channel_has_its_own_scale() -> None:
    """A channel a thousand times larger must not cost the others their precision."""
    torch.manual_seed(0)
    weight = torch.randn(6, 32)
    weight[2] *= 1000
    steps, scale = quantize_weight(weight)
    error = (steps.float() * scale[:, None] - weight).abs().amax(1)
    assert scale[2] > 100 * scale[0]
    assert (error <= scale / 2 * 1.001).all()
    assert (steps.abs().amax(1) == 127).all(), "every channel uses its whole range"


def test_a_channel_of_zeros_stays_zero_and_finite() -> None:
    steps, scale = quantize_weight(torch.tensor([[0.0, 0.0], [1.0, -2.0], [1e-42, 0.0]]))
    assert steps.tolist() == [[0, 0], [64, -127], [0, 0]] and torch.isfinite(scale).all()


def test_a_layer_without_bias_has_one_of_zeros_in_8_bits() -> None:
    layer = nn.Linear(4, 3, bias=False)
    assert QuantizedLinear.from_linear(layer, int8()).bias.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="stays in float"):
        QuantizedLinear.from_linear(layer, LayerDecision(decision="float"))


@given(scale=st.floats(1e-3, 10), zero=st.integers(0, 255), share=st.floats(0, 1))
def test_inputs_come_back_within_half_a_step_and_zero_exactly(
    scale: float, zero: int, share: float
) -> None:
    twin = QuantizedLinear.from_linear(nn.Linear(1, 1), int8(scale=scale, zero=zero))
    low, high = -scale * zero, scale * (255 - zero)
    x = torch.tensor([low + share * (high - low), 0.0])
    back = (twin.quantize_input(x) - zero) * twin.input_scale
    assert float((back[0] - x[0]).abs()) <= scale / 2 * (1 + 1e-4)
    assert float(back[1]) == 0.0


def test_only_linear_layers_inside_blocks_and_the_head_take_part() -> None:
    paths = list(quantizable_layers(network()))
    assert len(paths) == 2 * 4 + 2 * 10 + 1
    assert QKV in paths and QUERY in paths
    assert [path for path in paths if "cls." in path or "embedding" in path] == [HEAD]


@torch.no_grad()
def test_the_head_and_the_table_that_it_shares_are_the_same_integers() -> None:
    blip, ids = network(), torch.tensor([[3, 17, 39]])
    words, bias = blip.decoder.bert.embeddings.word_embeddings.weight, torch.randn(40)
    blip.decoder.cls.predictions.bias.copy_(bias)
    rounded = torch.fake_quantize_per_channel_affine(
        words, words.abs().amax(1) / 127, torch.zeros(40, dtype=torch.int32), 0, -127, 127
    )
    apply_quantization(blip, Quantization(mode="static", layers={HEAD: int8(scale=1e-4)}))
    assert_close(blip.decoder.bert.embeddings.word_embeddings(ids), rounded[ids])
    x = torch.randn(2, 32) * 1e-3
    assert_close(
        blip.get_submodule(HEAD)(x), nn.functional.linear(x, rounded, bias), rtol=1e-3, atol=5e-4
    )
    assert not torch.equal(rounded, words), "rounding must show"


@torch.no_grad()
@pytest.mark.parametrize("decision", [TABLE, replace(TABLE, weight_bits=4, group_size=16)])
def test_a_table_without_a_head_is_looked_up_in_integers(decision: LayerDecision) -> None:
    blip, ids = network("BlipForImageTextRetrieval"), torch.tensor([[3, 17, 39], [0, 1, 3]])
    (path,) = quantizable_tables(blip)
    words = blip.get_submodule(path).get_parameter("weight")
    groups = words.unflatten(1, (-1, decision.group_size or words.shape[1]))
    most = 7 if decision.group_size else 127
    scale = groups.abs().amax(-1, keepdim=True) / most
    rounded = ((groups / scale).round() * scale).flatten(1)
    apply_quantization(blip, Quantization(mode="static", layers={path: decision}))
    assert_close(blip.get_submodule(path)(ids), rounded[ids])
    assert not torch.equal(rounded, words), "rounding must show"


def test_a_table_is_no_product() -> None:
    blip = network("BlipForImageTextRetrieval")
    (path,) = quantizable_tables(blip)
    with pytest.raises(ArtifactError, match="a table multiplies nothing: it cannot be static"):
        apply_quantization(blip, Quantization(mode="static", layers={path: int8()}))


@pytest.mark.parametrize("architecture", ["BlipForConditionalGeneration", "BlipForPreTraining"])
def test_a_table_that_a_head_shares_goes_with_the_head(architecture: Architecture) -> None:
    blip = network(architecture)
    assert not quantizable_tables(blip)
    apply_quantization(blip, everything(blip))
    tables = [module for path, module in blip.named_modules() if is_table(path)]
    assert tables and all(isinstance(module, QuantizedWords) for module in tables)


def test_a_layer_that_two_towers_share_is_replaced_in_both() -> None:
    blip = network("BlipForPreTraining")
    apply_quantization(blip, everything(blip))
    encoder, decoder = blip.encoder.encoder.layer[0], blip.decoder.bert.encoder.layer[0]
    assert isinstance(encoder.get_submodule("output.dense"), QuantizedLinear)
    assert encoder.get_submodule("output.dense") is decoder.get_submodule("output.dense")
    assert not quantizable_layers(blip), "no float layer is left"


def test_layers_decided_as_float_stay_the_same_objects() -> None:
    blip = network()
    before = quantizable_layers(blip)
    layers = {path: LayerDecision(decision="float") for path in before} | {QKV: int8()}
    apply_quantization(blip, Quantization(mode="static", layers=layers))
    after = quantizable_layers(blip)
    assert set(before) - set(after) == {QKV}
    assert all(after[path].weight is before[path].weight for path in after)


def test_bytes_are_one_a_weight_in_8_bits_and_four_elsewhere() -> None:
    blip = network()
    floats = sum(parameter.numel() for parameter in blip.parameters())
    weights = sum(layer.weight.numel() for layer in quantizable_layers(blip).values())
    channels = sum(layer.out_features for layer in quantizable_layers(blip).values())
    count = len(quantizable_layers(blip))
    assert weight_bytes(blip) == 4 * floats
    apply_quantization(blip, everything(blip))
    scales = 4 * channels + (4 + 1) * count  # per channel; input scale and zero point
    assert weight_bytes(blip) == 4 * (floats - weights) + weights + scales


def test_quantization_json_round_trip(tmp_path: Path) -> None:
    want = Quantization(
        mode="static",
        layers={QKV: int8(scale=1 / 3), QUERY: LayerDecision(decision="float", why="fall-back")},
        observer="mse",
        samples=12,
        data={"name": "shapes", "sha256": "00", "items": 12},
        weight_bytes=5,
        float_weight_bytes=20,
        metric={"name": "CIDEr", "float": 90.5, "int8": 90.0},
    )
    assert not Quantization.is_in(tmp_path)
    want.save(tmp_path)
    assert Quantization.is_in(tmp_path)
    assert Quantization.load(tmp_path) == want
    assert want.int8_layers == [QKV]
    document = json.loads((tmp_path / "quantization.json").read_text())
    assert document["format_version"] == 1 and document["layers"][QKV]["decision"] == "int8"
    assert list(document)[-1] == "layers", "the short fields come first"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("decision", "int4", "decision"),
        ("weight_bits", 4, "8-bit weights"),
        ("input_scale", 0.0, "input_scale"),
        ("input_scale", None, "input_scale"),
        ("input_scale", "0.1", "input_scale"),
        ("input_scale", float("nan"), "input_scale"),
        ("input_zero_point", 256, "input_zero_point"),
        ("input_zero_point", 1.5, "input_zero_point"),
        ("input_range", [1.0], QKV),
        ("colour", "red", "colour"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(field: str, value: Any, said: str) -> None:
    document = Quantization(mode="static", layers={QKV: int8()}).to_json()
    document["layers"][QKV][field] = value
    with pytest.raises(ArtifactError, match=said) as caught:
        Quantization.from_json(document, source="some/quantization.json")
    assert "some/quantization.json" in str(caught.value) and QKV in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [[], {}, {"format_version": 2}, {"format_version": 1, "layers": []}, {"format_version": 1}],
)
def test_another_document_is_refused(document: Any) -> None:
    with pytest.raises(ArtifactError, match="here"):
        Quantization.from_json(document, source="here")


def saved(folder: Path) -> Model:
    tokenizer = Tokenizer.train(["a red circle over a blue square"], 40)
    generation = Generation(bos_token_id=tokenizer.dec, eos_token_id=3, pad_token_id=0)
    model = Model(network(), tokenizer, Preprocess(size=16), generation)
    save_model(folder, model)
    return model


def test_a_folder_opens_in_float_unless_asked(tmp_path: Path) -> None:
    model = saved(tmp_path)
    want = logits(model.blip)
    assert torch.equal(logits(load_model(tmp_path, quantized=True).blip), want), "nothing decided"
    everything(model.blip).save(tmp_path)
    assert torch.equal(logits(load_model(tmp_path).blip), want)
    quantized = load_model(tmp_path, quantized=True).blip
    assert sum(isinstance(m, QuantizedLinear) for m in quantized.modules()) == 29
    assert not torch.equal(logits(quantized), want)


@pytest.mark.parametrize("path", ["vision_model.encoder.layers.9.mlp.fc1", "itm_head", ""])
def test_an_unknown_layer_is_refused_by_name(tmp_path: Path, path: str) -> None:
    saved(tmp_path)
    Quantization(mode="static", layers={path: int8()}).save(tmp_path)
    with pytest.raises(ArtifactError, match=repr(path)):
        load_model(tmp_path, quantized=True)
    load_model(tmp_path)
