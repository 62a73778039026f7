"""Calibration data and models that are not what they should be, and goals that cannot be met."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from blip_edge import artifact
from blip_edge.artifact import read_json, write_json
from blip_edge.errors import ArtifactError, ToleranceError
from blip_edge.models import Model
from blip_edge.models.folder import load_model, save_model
from blip_edge.models.quantized import Quantization
from blip_edge.progress import SILENT
from blip_edge.quantize import QuantizeRecipe, quantize

FC1 = "vision_model.encoder.layers.0.mlp.fc1"
FAST: dict[str, Any] = {"samples": 8, "batch": 4, "eval_items": 4, "observer": "min-max"}
ALL_WAYS: list[dict[str, Any]] = [
    {},
    {"observer": "entropy", "smooth": "search"},
    {"mode": "weight-only"},
    {"mode": "qat", "steps": 1},
]


class Heard:
    """Keeps what was said."""

    track, note = SILENT.track, SILENT.note

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def steady(folder: Path) -> float:
    return 90.0


def only(data: Path, count: int) -> Path:
    """The data set with the first `count` train pictures alone."""
    rows = read_json(data / "caption_train.json")[: 2 * count]
    write_json(data / "caption_train.json", rows)
    return data


def test_data_without_pictures_is_refused_and_leaves_nothing(
    model: Path, data: Path, tmp_path: Path
) -> None:
    shutil.rmtree(data / "images" / "train")
    with pytest.raises(ArtifactError, match=r"cannot be read.*train/\d+\.png"):
        quantize(model, data, tmp_path / "out", QuantizeRecipe(**FAST), measure=steady)
    with pytest.raises(ArtifactError, match=r"no train pictures|no rows|empty"):
        quantize(model, only(data, 0), tmp_path / "out", QuantizeRecipe(**FAST), measure=steady)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("how", ALL_WAYS)
def test_one_picture_works_with_a_warning(
    model: Path, data: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    heard = Heard()
    recipe = QuantizeRecipe(**FAST | how)
    only(data, 1)
    output = quantize(model, data, tmp_path / "out", recipe, progress=heard, measure=steady)
    found = Quantization.load(output)
    assert found.samples == 1 and found.int8_layers
    assert any("warning: 1 pictures show little" in line for line in heard.lines)
    load_model(output, quantized=True)


@pytest.mark.parametrize("how", ALL_WAYS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(
    captioner: Model, data: Path, tmp_path: Path, how: dict[str, Any], value: float
) -> None:
    with torch.no_grad():
        captioner.blip.get_parameter(f"{FC1}.weight")[3, 5] = value
    (tmp_path / "bad").mkdir()
    save_model(tmp_path / "bad", captioner)
    with pytest.raises(ArtifactError, match=r"layers\.0\.mlp\.fc1\.weight.*not finite"):
        quantize(
            tmp_path / "bad", data, tmp_path / "out", QuantizeRecipe(**FAST | how), measure=steady
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ALL_WAYS)
def test_pixels_or_activations_that_are_no_numbers_are_named(
    captioner: Model, data: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    nn.init.constant_(captioner.blip.get_parameter(f"{FC1}.weight"), 1e38)
    (tmp_path / "bad").mkdir()
    save_model(tmp_path / "bad", captioner)
    with pytest.raises(ArtifactError, match=r"mlp\.fc[12].*not finite"):
        quantize(
            tmp_path / "bad", data, tmp_path / "out", QuantizeRecipe(**FAST | how), measure=steady
        )


def test_a_goal_that_cannot_be_met_keeps_the_best_point_with_its_curve(
    model: Path, data: Path, tmp_path: Path
) -> None:
    """Returning layers helps, but never enough; past three it gets worse again."""

    def measure(folder: Path) -> float:
        if not Quantization.is_in(folder):
            return 100.0
        back = 29 - len(Quantization.load(folder).int8_layers)
        return 60.0 + 10 * back if back <= 3 else 70.0

    with pytest.raises(ToleranceError, match=r"out\.rejected") as caught:
        quantize(model, data, tmp_path / "out", QuantizeRecipe(**FAST), measure=measure)
    assert caught.value.exit_code == 5 and not (tmp_path / "out").exists()
    rejected = tmp_path / "out.rejected"
    metrics = json.loads((rejected / "metrics.json").read_text())
    asked = {int(point["float_layers"]): point["metric"] for point in metrics["curve"]}
    assert asked[0] == 60.0 and len(asked) > 3
    best = max(asked.values())
    assert metrics["metrics"]["CIDEr"] == best
    kept = Quantization.load(rejected)
    assert kept.metric is not None and kept.metric["int8"] == best
    assert asked[29 - len(kept.int8_layers)] == best
    assert artifact.read_provenance(rejected).history == metrics["curve"]
    load_model(rejected, quantized=True)
