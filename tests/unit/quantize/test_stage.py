"""The verb as a whole on a tiny captioner: what it writes, refuses and keeps."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blip_edge import artifact
from blip_edge.errors import ArtifactError, ToleranceError, UsageError
from blip_edge.models import Model, build
from blip_edge.models.folder import load_model, save_model
from blip_edge.models.quantized import Quantization, QuantizedLinear, quantizable_layers
from blip_edge.progress import SILENT
from blip_edge.quantize import Measure, QuantizeRecipe, quantize
from blip_edge.recipe import load

FC2 = "vision_model.encoder.layers.1.mlp.fc2"
FAST: dict[str, Any] = {"samples": 8, "batch": 4, "eval_items": 4, "observer": "min-max"}


def steady(folder: Path) -> float:
    return 90.0


def falling(folder: Path) -> float:
    return 80.0 if Quantization.is_in(folder) else 100.0


def run(
    model: Path, data: Path, output: Path, measure: Measure | None = steady, **how: Any
) -> Path:
    seed, force = how.pop("seed", 0), how.pop("force", False)
    recipe = QuantizeRecipe(**FAST | how)
    return quantize(model, data, output, recipe, seed=seed, force=force, measure=measure)


def test_it_writes_a_model_with_its_decisions(model: Path, data: Path, tmp_path: Path) -> None:
    output = run(model, data, tmp_path / "out", observer="mse")
    quantization = Quantization.load(output)
    paths = list(quantizable_layers(load_model(model).blip))
    assert list(quantization.layers) == quantization.int8_layers == paths
    for layer in quantization.layers.values():
        assert layer.input_range is not None and layer.input_scale is not None
        width = max(layer.input_range[1], 0) - min(layer.input_range[0], 0)
        assert layer.input_scale == pytest.approx(width / 255)
        assert layer.sqnr_db is not None and layer.sqnr_db > 20 and layer.why
    assert (quantization.mode, quantization.observer, quantization.samples) == ("static", "mse", 8)
    assert quantization.data is not None and quantization.data["name"] == "noise"
    assert quantization.metric == {
        "name": "CIDEr",
        "split": "val",
        "items": 4,
        "float": 90.0,
        "int8": 90.0,
        "loss": 0.0,
        "tolerance": 0.01,
    }


def test_the_float_weights_are_the_models_own(model: Path, data: Path, tmp_path: Path) -> None:
    output = run(model, data, tmp_path / "out")
    name = "model.safetensors"
    assert artifact.sha256_file(output / name) == artifact.sha256_file(model / name)
    assert artifact.kind(output) == "model"
    assert not any(isinstance(m, QuantizedLinear) for m in load_model(output).blip.modules())
    eight = load_model(output, quantized=True).blip
    assert sum(isinstance(m, QuantizedLinear) for m in eight.modules()) == 29


def test_weight_bytes_count_both_precisions(model: Path, data: Path, tmp_path: Path) -> None:
    quantization = Quantization.load(run(model, data, tmp_path / "out"))
    blip = load_model(model).blip
    floats = sum(parameter.numel() for parameter in blip.parameters())
    layers = quantizable_layers(blip).values()
    saved = sum(3 * m.weight.numel() - 4 * m.out_features - 5 for m in layers)
    assert quantization.float_weight_bytes == 4 * floats
    assert quantization.weight_bytes == 4 * floats - saved


def test_it_says_where_it_comes_from(model: Path, data: Path, tmp_path: Path) -> None:
    (model / "README.md").write_text("# small\n\nA captioner.\n\n## Quantization\n\nOf old.\n")
    output = run(model, data, tmp_path / "out", seed=3)
    origin = artifact.read_provenance(output)
    assert origin.verb == "quantize" and origin.recipe["samples"] == 8
    assert origin.recipe["seed"] == 3
    assert origin.parents == [{"path": str(model), "sha256": artifact.sha256_folder(model)}]
    assert origin.history == [{"float_layers": 0.0, "metric": 90.0, "loss": 0.0}]
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["metrics"] == {"CIDEr": 90.0} and metrics["float"] == {"CIDEr": 90.0}
    assert (metrics["task"], metrics["split"], metrics["items"]) == ("caption", "val", 4)
    card = (output / "README.md").read_text()
    assert card.startswith("# small\n\nA captioner.\n\n## Quantization\n\n29 of 29")
    assert "Of old" not in card and "| int8 | 90.00 |" in card


def test_the_same_seed_gives_the_same_bytes(model: Path, data: Path, tmp_path: Path) -> None:
    folders = [run(model, data, tmp_path / name, seed=s) for name, s in [("a", 1), ("b", 1)]]
    texts = [(folder / "quantization.json").read_bytes() for folder in folders]
    assert texts[0] == texts[1]
    other = run(model, data, tmp_path / "c", seed=2)
    assert (other / "quantization.json").read_bytes() != texts[0]


def test_it_measures_with_the_projects_own_evaluation(
    model: Path, data: Path, tmp_path: Path
) -> None:
    metric = Quantization.load(run(model, data, tmp_path / "out", None, tolerance=1.0)).metric
    assert metric is not None and math.isfinite(metric["float"]) and metric["items"] == 4


def test_a_tolerance_that_a_few_captions_use_up_is_warned_of(
    model: Path, data: Path, tmp_path: Path
) -> None:
    heard: list[str] = []

    class Heard:
        track, note = SILENT.track, SILENT.note

        def say(self, text: str) -> None:
            heard.append(text)

    for tolerance in (0.0, 0.5, 2.0):
        recipe = QuantizeRecipe(**FAST, sensitivity="none", tolerance=tolerance)
        quantize(model, data, tmp_path / str(tolerance), recipe, progress=Heard(), measure=steady)
    warnings = [line for line in heard if line.startswith("warning: of ")]
    assert len(warnings) == 1 and "of 4 items" in warnings[0] and "50.00%" in warnings[0]


def test_the_test_split_is_never_opened(model: Path, data: Path, tmp_path: Path) -> None:
    (data / "caption_test.json").unlink()
    shutil.rmtree(data / "images" / "test")
    run(model, data, tmp_path / "out", None, tolerance=1.0)


def test_a_missed_tolerance_keeps_the_result_beside(
    model: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ToleranceError, match=r"20\.00% lost of 1\.00%.*out\.rejected") as caught:
        run(model, data, tmp_path / "out", falling)
    assert caught.value.exit_code == 5
    assert not (tmp_path / "out").exists()
    rejected = Quantization.load(tmp_path / "out.rejected")
    assert rejected.metric is not None and rejected.metric["int8"] == 80.0
    load_model(tmp_path / "out.rejected", quantized=True)


def test_the_floor_keeps_a_bad_layer_in_float(captioner: Model, data: Path, tmp_path: Path) -> None:
    layers = quantizable_layers(captioner.blip)
    with torch.no_grad():
        layers[FC2.replace("fc2", "fc1")].bias[5] = 400.0
        layers[FC2].weight[:, 5] = 0
    (tmp_path / "bad").mkdir()
    save_model(tmp_path / "bad", captioner)
    output = run(tmp_path / "bad", data, tmp_path / "out", sensitivity="sqnr", floor_db=15.0)
    decision = Quantization.load(output).layers[FC2]
    assert decision.decision == "float" and "floor" in decision.why
    assert len(Quantization.load(output).int8_layers) == 28


def test_what_is_not_measured_needs_no_metric(model: Path, data: Path, tmp_path: Path) -> None:
    recipe = QuantizeRecipe(**FAST | {"sensitivity": "none", "eval_items": 0})
    output = quantize(model, data, tmp_path / "out", recipe)
    assert Quantization.load(output).metric is None


def test_without_sensitivity_no_layer_is_measured(model: Path, data: Path, tmp_path: Path) -> None:
    output = run(model, data, tmp_path / "out", sensitivity="none", eval_items=0)
    quantization = Quantization.load(output)
    assert all(layer.sqnr_db is None for layer in quantization.layers.values())
    assert quantization.metric is None and not (output / "metrics.json").exists()


def test_a_layer_that_captioning_never_runs_stays_float(
    captioner: Model, data: Path, tmp_path: Path
) -> None:
    whole = build(replace(captioner.config, architecture="BlipForPreTraining"))
    (tmp_path / "whole").mkdir()
    save_model(tmp_path / "whole", captioner.with_blip(whole))
    layers = Quantization.load(run(tmp_path / "whole", data, tmp_path / "out")).layers
    stays = {path for path, layer in layers.items() if layer.decision == "float"}
    assert stays == {path for path in layers if path.startswith("text_encoder.")} and stays
    assert "does not run it" in layers[min(stays)].why


def test_a_quantized_model_is_measured_in_float_first(
    model: Path, data: Path, tmp_path: Path
) -> None:
    once = run(model, data, tmp_path / "once")
    seen: list[bool] = []

    def measure(folder: Path) -> float:
        seen.append(Quantization.is_in(folder))
        return 1.0

    run(once, data, tmp_path / "twice", measure)
    assert seen == [False, True]


def test_what_is_no_model_or_no_data_set_is_refused(
    model: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="is a data; quantize takes a model"):
        run(data, data, tmp_path / "out")
    with pytest.raises(ArtifactError, match="is a model, not a data set"):
        run(model, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_replaced_unasked(model: Path, data: Path, tmp_path: Path) -> None:
    run(model, data, tmp_path / "out")
    with pytest.raises(ArtifactError, match="--force"):
        run(model, data, tmp_path / "out")
    assert Quantization.load(run(model, data, tmp_path / "out", force=True, samples=2)).samples == 2


@pytest.mark.parametrize(
    "override",
    ["samples=0", "percentile=40", "max_float=2", "tolerance=-1", "eval_items=0", "observer=best"],
)
def test_a_recipe_that_makes_no_sense_is_refused(override: str) -> None:
    with pytest.raises(UsageError):
        load(QuantizeRecipe, "quantize", overrides=[override])
