"""Modes: what each leaves of a layer, mixed in one model, through the verb."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from blip_edge.errors import UsageError
from blip_edge.models.folder import load_model
from blip_edge.models.quantized import HEAD, Quantization, QuantizedLayer
from blip_edge.quantize import QuantizeRecipe, quantize
from blip_edge.quantize.modes import form_of, layer_decision
from blip_edge.recipe import load

FAST: dict[str, Any] = {"samples": 4, "batch": 4, "eval_items": 4, "observer": "min-max"}
QKV = "vision_model.encoder.layers.0.self_attn.qkv"
STEP = "text_decoder.bert.encoder.layer.0.attention.self.query"
ONCE = "text_decoder.bert.encoder.layer.0.crossattention.self.key"


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def track(self, items: Any, description: str, *, total: int | None = None) -> Any:
        return items

    def note(self, text: str) -> None: ...

    def say(self, text: str) -> None:
        self.lines.append(text)


def run(model: Path, data: Path, output: Path, **how: Any) -> Quantization:
    recipe = QuantizeRecipe(**FAST | how)
    quantize(model, data, output, recipe, measure=lambda folder: 90.0)
    return Quantization.load(output)


@pytest.mark.parametrize("mode", ["dynamic", "weight-only"])
def test_modes_without_ranges_decide_every_layer_and_measure_it(
    mode: str, model: Path, data: Path, tmp_path: Path
) -> None:
    found = run(model, data, tmp_path / "out", mode=mode)
    assert {layer.form for layer in found.layers.values()} == {mode}
    for layer in found.layers.values():
        assert layer.input_range is None and layer.weight_bits == 8
        assert layer.sqnr_db is not None and layer.sqnr_db > 25
    blip = load_model(tmp_path / "out", quantized=True).blip
    assert sum(isinstance(m, QuantizedLayer) for m in blip.modules()) == 29


def test_weights_alone_lose_less_than_weights_and_inputs(
    model: Path, data: Path, tmp_path: Path
) -> None:
    ratios = {}
    for mode in ("static", "dynamic", "weight-only"):
        found = run(model, data, tmp_path / mode, mode=mode)
        ratios[mode] = sum(layer.sqnr_db or 0 for layer in found.layers.values()) / 29
    four = run(model, data, tmp_path / "four", mode="weight-only", weight_bits=4, group_size=16)
    ratios["four"] = sum(layer.sqnr_db or 0 for layer in four.layers.values()) / 29
    assert ratios["weight-only"] > ratios["dynamic"] > ratios["four"] > 10
    assert ratios["weight-only"] > ratios["static"] > ratios["four"]


@pytest.mark.parametrize(
    ("how", "precision", "bits"),
    [
        ({"mode": "weight-only", "weight_bits": 4, "group_size": 16}, "int4", "in 4 bits"),
        (
            {"decoder_mode": "weight-only", "weight_bits": 4, "group_size": 16},
            "int4+int8",
            "in 4 or 8 bits",
        ),
        ({"mode": "dynamic"}, "int8", "in 8 bits"),
    ],
)
def test_it_is_called_what_it_is(
    model: Path, data: Path, tmp_path: Path, how: dict[str, Any], precision: str, bits: str
) -> None:
    """In the line that is said, in metrics.json and in the README."""
    said = Said()
    out, recipe = tmp_path / "out", QuantizeRecipe(**FAST | how)
    quantize(model, data, out, recipe, measure=lambda folder: 90.0, progress=said)
    assert f"29 of 29 layers {bits}: 90.00" in said.lines[-1]
    assert json.loads((out / "metrics.json").read_text())["precision"] == precision
    assert f"| {precision} | 90.00 |" in (out / "README.md").read_text()


def test_a_decoder_goes_its_own_way_but_for_what_is_read_once(
    model: Path, data: Path, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"decoder_mode": "weight-only", "weight_bits": 4, "group_size": 16}
    found = run(model, data, tmp_path / "out", **how)
    assert [found.layers[path].form for path in (QKV, ONCE)] == ["static", "static"]
    for path in (STEP, HEAD):
        layer = found.layers[path]
        assert (layer.form, layer.weight_bits, layer.group_size) == ("weight-only", 4, 16)
    assert found.layers[QKV].input_range is not None
    card = (tmp_path / "out" / "README.md").read_text()
    assert "29 of 29 layers" in card
    assert "with 4-bit weights (symmetric, a scale for 16 inputs)" in card
    assert "min-max over 4 samples of noise" in card


def test_four_bits_are_smaller_than_eight(model: Path, data: Path, tmp_path: Path) -> None:
    four = run(model, data, tmp_path / "four", mode="weight-only", weight_bits=4)
    eight = run(model, data, tmp_path / "eight", mode="weight-only")
    assert four.weight_bytes < eight.weight_bytes < four.float_weight_bytes


def test_layers_without_whole_groups_stay_in_8_bits() -> None:
    recipe = QuantizeRecipe(mode="weight-only", weight_bits=4, group_size=64)
    layer = layer_decision(QKV, torch.nn.Linear(96, 8), None, recipe)
    assert (layer.weight_bits, layer.group_size) == (8, None)
    assert "96 inputs are no whole number of groups of 64" in layer.why


def test_layers_fall_back_in_every_mode(model: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    recipe = QuantizeRecipe(**FAST, mode="weight-only", weight_bits=4, group_size=16)

    def better_with_float(folder: Path) -> float:
        if not Quantization.is_in(folder):
            return 100.0
        return 100.0 if len(Quantization.load(folder).int8_layers) <= 26 else 90.0

    quantize(model, data, output, recipe, measure=better_with_float)
    found = Quantization.load(output)
    assert len(found.int8_layers) == 26
    floats = [layer for layer in found.layers.values() if layer.decision == "float"]
    ratios = [layer.sqnr_db for layer in found.layers.values() if layer.decision == "int8"]
    assert max(layer.sqnr_db or 0 for layer in floats) <= min(ratio or 0 for ratio in ratios)
    assert all(layer.group_size is None and layer.weight_bits == 32 for layer in floats)


def test_a_twins_projections_are_read_once_too() -> None:
    recipe = QuantizeRecipe(decoder_mode="dynamic")
    for name in ("self", "self0", "self1"):
        path = f"text_decoder.bert.encoder.layer.3.crossattention.{name}.value"
        assert form_of(path, recipe) == "static"
    assert form_of("text_encoder.encoder.layer.3.attention.self.query", recipe) == "static"
    assert form_of(STEP, recipe) == form_of(HEAD, recipe) == "dynamic"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["mode=slow"], "mode"),
        (["decoder_mode=qat"], "decoder_mode"),
        (["weight_bits=4"], "weight-only"),
        (["mode=weight-only", "weight_bits=3"], "weight_bits"),
        (["mode=weight-only", "weight_bits=4", "group_size=24"], "group_size"),
    ],
)
def test_modes_that_make_no_sense_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load(QuantizeRecipe, "quantize", overrides=overrides)
