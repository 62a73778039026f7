"""Smoothing: the paper's numbers, what it is worth on channels that are far out, and the verb."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from blip_edge.data.dataset import Dataset
from blip_edge.errors import UsageError
from blip_edge.models import Model
from blip_edge.models.folder import load_model, save_model
from blip_edge.models.quantized import Quantization, apply_quantization
from blip_edge.quantize import QuantizeRecipe, quantize
from blip_edge.quantize.calibrate import Seen, decode, few, pick
from blip_edge.quantize.decide import decide, evened_out
from blip_edge.quantize.folds import folds_of
from blip_edge.quantize.sensitivity import Noise
from blip_edge.quantize.smoothing import smoothing_scales
from blip_edge.recipe import load
from tests.conftest import Run

NORM = "vision_model.encoder.layers.0.layer_norm2"
FC1 = "vision_model.encoder.layers.0.mlp.fc1"
PLAIN = QuantizeRecipe(observer="min-max", sensitivity="sqnr", floor_db=0)
FAST: dict[str, Any] = {"samples": 4, "batch": 4, "eval_items": 4, "observer": "min-max"}


@torch.no_grad()
def with_outliers(model: Model, by: float = 30.0) -> Model:
    """The model with some channels of every tensor that can be divided `by` times as large.

    It says what it did: what reads them takes the factor back.
    """
    for number, fold in enumerate(folds_of(model.blip)):
        scales = torch.ones(fold.readers[0].in_features)
        scales[number % 5 :: 11] = 1 / by
        fold.apply(scales)
    return model


@pytest.fixture
def seen(data: Path, captioner: Model) -> list[Seen]:
    pixels = pick(Dataset.open(data), captioner.preprocess, samples=8, seed=0)
    return decode(captioner, pixels, batch=8)


@torch.no_grad()
def logits(model: Model, seen: list[Seen]) -> torch.Tensor:
    part = seen[0]
    pixels = torch.from_numpy(model.preprocess.normalise(part.pixels))
    return model.blip.lm_logits(part.input_ids, model.blip.vision_model(pixels))


def test_scales_by_hand() -> None:
    inputs, weights = torch.tensor([16.0, 1.0, 0.0, 4.0]), torch.tensor([1.0, 4.0, 2.0, 0.0])
    assert smoothing_scales(inputs, weights, 0.5).tolist() == [4.0, 0.5, 1.0, 1.0]
    assert smoothing_scales(inputs, weights, 1.0).tolist() == [16.0, 1.0, 1.0, 1.0]
    assert smoothing_scales(inputs, weights, 0.0).tolist() == [1.0, 0.25, 1.0, 1.0]


@given(alpha=st.floats(0, 1), unit=st.floats(1e-3, 1e3))
def test_the_inputs_unit_moves_all_channels_alike(alpha: float, unit: float) -> None:
    inputs, weights = torch.tensor([16.0, 1.0, 3.0]), torch.tensor([1.0, 4.0, 0.1])
    one, other = (smoothing_scales(inputs * u, weights, alpha) for u in (1.0, unit))
    ratio = other / one
    torch.testing.assert_close(ratio, ratio[:1].expand(3), rtol=1e-4, atol=0)


@pytest.mark.parametrize("how", [{"smooth": "search"}, {"smooth": "fixed", "smooth_alpha": 0.5}])
def test_outlying_channels_ruin_8_bits_and_smoothing_brings_them_back(
    captioner: Model, seen: list[Seen], how: dict[str, Any]
) -> None:
    want = logits(captioner, seen)
    recipe = replace(PLAIN, **how)
    ratios = {}
    for name, each in (("plain", PLAIN), ("smooth", recipe)):
        model = captioner.with_blip(with_outliers(captioner).blip) if name == "plain" else captioner
        torch.testing.assert_close(logits(model, seen), want, rtol=1e-4, atol=1e-3)
        evened_out(model, seen, each)
        torch.testing.assert_close(logits(model, seen), want, rtol=1e-4, atol=1e-3)
        layers = decide(model, seen, each)
        eight = load_quantized(model, Quantization(mode="static", layers=layers))
        noise = Noise()
        noise.add(want, logits(eight, seen))
        agree = (logits(eight, seen).argmax(-1) == want.argmax(-1)).float().mean()
        ratios[name] = noise.db, float(agree)
    assert ratios["plain"][0] < 15 < 25 < ratios["smooth"][0]
    assert ratios["smooth"][1] > 0.97 and ratios["smooth"][1] >= ratios["plain"][1]


def load_quantized(model: Model, quantization: Quantization) -> Model:
    from copy import deepcopy

    return model.with_blip(apply_quantization(deepcopy(model.blip), quantization))


def test_the_search_never_does_worse_by_layer_than_leaving_it(
    captioner: Model, seen: list[Seen]
) -> None:
    before = decide(captioner, seen, PLAIN)
    alphas, _ = evened_out(captioner, seen, replace(PLAIN, smooth="search"))
    assert alphas is not None and any(alpha is not None for alpha in alphas.values())
    after = decide(captioner, seen, PLAIN)
    for path, layer in before.items():
        if path not in alphas:  # else what it says is divided, and its ratio is of something else
            assert (after[path].sqnr_db or 0) > (layer.sqnr_db or 0) - 1.0, path
    better = [path for path in before if (after[path].sqnr_db or 0) > (before[path].sqnr_db or 0)]
    assert len(better) > len(alphas) / 2


def test_the_table_tells_outliers_before_and_after(captioner: Model, seen: list[Seen]) -> None:
    with torch.no_grad():
        norm = captioner.blip.get_submodule(NORM)
        assert isinstance(norm, nn.LayerNorm)
        norm.weight[[3, 17]] *= 30
    _, before = evened_out(captioner, seen, PLAIN)
    assert before is not None and before[FC1]["far_out"] == 2 and "smoothed" not in before[FC1]
    assert before[FC1]["channels"] == 32 and before[FC1]["peak"] >= 1
    alphas, table = evened_out(captioner, seen, replace(PLAIN, smooth="search"))
    assert alphas is not None and table is not None and alphas[NORM] is not None
    assert table[FC1]["far_out"] == 2 and table[FC1]["smoothed"]["far_out"] == 0
    assert len(table) == 29


def test_the_folder_holds_the_smoothed_weights_and_says_so(
    model: Path, data: Path, tmp_path: Path, seen: list[Seen]
) -> None:
    recipe = QuantizeRecipe(**FAST | {"samples": 12}, smooth="search")
    output = quantize(model, data, tmp_path / "out", recipe, measure=lambda _: 90.0)
    found = Quantization.load(output)
    assert found.smoothing is not None and found.outliers is not None
    float_model = load_model(output)
    want = logits(load_model(model), seen)
    torch.testing.assert_close(logits(float_model, seen), want, rtol=1e-4, atol=1e-4)
    changed = [path for path, alpha in found.smoothing.items() if alpha is not None]
    assert changed
    for path, alpha in found.smoothing.items():
        mine, theirs = (m.blip.get_submodule(path).weight for m in (float_model, load_model(model)))
        assert isinstance(mine, torch.Tensor) and isinstance(theirs, torch.Tensor)
        assert torch.equal(mine, theirs) == (alpha is None), path
    eight = load_model(output, quantized=True)
    noise = Noise()
    noise.add(want, logits(eight, seen))
    recipe = replace(recipe, smooth="none")
    plain = quantize(model, data, tmp_path / "plain", recipe, measure=lambda _: 90.0)
    other = Noise()
    other.add(want, logits(load_model(plain, quantized=True), seen))
    print(noise.db, other.db)
    assert noise.db > other.db - 1
    card = (output / "README.md").read_text()
    assert "moved into the weights" in card


def test_inspect_says_what_was_smoothed_and_how_far_channels_are_out(
    captioner: Model, data: Path, tmp_path: Path, run: Run
) -> None:
    norm = captioner.blip.get_submodule(NORM)
    assert isinstance(norm, nn.LayerNorm)
    with torch.no_grad():
        norm.weight[[3, 17]] *= 60
    (tmp_path / "far").mkdir()
    save_model(tmp_path / "far", captioner)
    for name, told, wanted in (
        ("none", {}, f"most of them {FC1}: 2 of 32\n"),
        ("search", {"smooth": "search"}, f"most of them {FC1}: 2 of 32, 0 after smoothing\n"),
    ):
        recipe = QuantizeRecipe(**FAST | {"samples": 12} | told)
        quantize(tmp_path / "far", data, tmp_path / name, recipe, measure=lambda _: 90.0)
        code, out, _ = run("inspect", tmp_path / name)
        assert code == 0 and "of 29 layers have channels far out" in out and wanted in out
        assert ("places that allow it" in out) == ("after smoothing)" in out) == (name == "search")


def test_what_is_not_in_8_bits_is_neither_surveyed_nor_smoothed(
    model: Path, data: Path, tmp_path: Path
) -> None:
    recipe = QuantizeRecipe(**FAST, mode="weight-only", smooth="search")
    found = Quantization.load(
        quantize(model, data, tmp_path / "out", recipe, measure=lambda _: 90.0)
    )
    assert found.smoothing is None and found.outliers is None


def test_dynamic_layers_are_smoothed_too(captioner: Model, seen: list[Seen]) -> None:
    with_outliers(captioner)
    recipe = replace(PLAIN, mode="dynamic", smooth="search")
    before = decide(captioner, seen, recipe)[FC1].sqnr_db
    evened_out(captioner, seen, recipe)
    after = decide(captioner, seen, recipe)[FC1].sqnr_db
    assert before is not None and after is not None and after > before + 10


def test_few_parts_are_spread_and_never_none(seen: list[Seen]) -> None:
    parts = [part for part in seen for _ in range(6)]
    chosen = few(parts, sum(part.pictures for part in parts) // 2)
    assert 0 < len(chosen) <= len(parts) // 2 + 1 and chosen[-1] in parts[len(parts) // 2 :]
    assert len(few(parts, 1)) == 1 and few(parts, 10**6) == parts
    assert few([], 4) == []


def test_smoothing_that_makes_no_sense_is_refused(captioner: Model, tmp_path: Path) -> None:
    for override in ("smooth=true", "smooth=some", "smooth_alpha=1.5"):
        with pytest.raises(UsageError, match="smooth"):
            load(QuantizeRecipe, "quantize", overrides=[override])
    save_model(tmp_path, captioner)  # nothing is touched by the refusal
