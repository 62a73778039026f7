"""Ranges by other packages: what they saw is what we would have seen, and their steps are ours."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError, MissingExtraError, UsageError
from blip_edge.models import Model, build
from blip_edge.models.folder import load_model
from blip_edge.models.quantized import Quantization, apply_quantization, quantizable_layers
from blip_edge.quantize import QuantizeRecipe, quantize
from blip_edge.quantize.calibrate import calibrate, decode, pick
from blip_edge.quantize.engines import find_ranges
from blip_edge.quantize.engines import onnxruntime as by_onnxruntime
from blip_edge.quantize.engines.steps import joined, span_of
from blip_edge.quantize.engines.whole import Feed, Whole, feeds_of
from blip_edge.quantize.extremes import MinMax
from blip_edge.quantize.recipe import OBSERVERS, EngineName
from blip_edge.quantize.search import affine
from blip_edge.quantize.sensitivity import Noise
from blip_edge.quantize.uses import Use, uses_of
from blip_edge.recipe import load
from blip_edge.runtime.engine import Task
from tests.conftest import Run
from tests.unit.quantize.kinds import trained

PACKAGES: dict[EngineName, str] = {
    "neural-compressor": "neural_compressor",
    "nncf": "nncf",
    "onnxruntime": "onnx",
}


@pytest.fixture
def captioner(captioner: Model) -> Model:
    """One layer a tower: engines take seconds for each."""
    config = captioner.config
    towers = {
        name: replace(getattr(config, name), num_hidden_layers=1)
        for name in ("vision_config", "text_config")
    }
    torch.manual_seed(5)
    blip = build(replace(config, **towers)).eval()
    for name, parameter in blip.named_parameters():
        if "norm" not in name.lower():
            nn.init.normal_(parameter, std=0.2)
    return captioner.with_blip(blip)


@pytest.fixture
def seen(data: Path, captioner: Model) -> Sequence[Use]:
    pixels = pick(Dataset.open(data), captioner.preprocess, samples=8, seed=0)
    return decode(captioner, pixels, batch=4)


class MovingAverage:
    """torch's MovingAverageMinMaxObserver: 0.01 of the way to each new batch's extremes."""

    def __init__(self) -> None:
        self.ends: tuple[float, float] | None = None

    def see(self, x: Tensor) -> None:
        low, high = float(x.min()), float(x.max())
        if self.ends is not None:
            low, high = (
                old + 0.01 * (new - old) for old, new in zip(self.ends, (low, high), strict=True)
            )
        self.ends = low, high

    def span(self) -> tuple[float, float] | None:
        return self.ends


BRUTE_FORCE: list[tuple[EngineName, str, type[MinMax | MovingAverage], float]] = [
    ("neural-compressor", "mean-min-max", MovingAverage, 10.0),  # cuts off what it saw late
    ("nncf", "min-max", MinMax, 1.0),
    ("onnxruntime", "min-max", MinMax, 1.0),
]
"""An engine, its observer, the same by brute force, and decibels that it may be worse than ours."""


@pytest.mark.parametrize(("engine", "observer", "brute", "worse"), BRUTE_FORCE)
def test_an_engine_sees_what_every_layer_reads_and_its_decisions_hold(
    engine: EngineName,
    observer: Any,
    brute: type[MinMax | MovingAverage],
    worse: float,
    model: Path,
    data: Path,
    seen: Sequence[Use],
    captioner: Model,
    tmp_path: Path,
    run: Run,
) -> None:
    pytest.importorskip(PACKAGES[engine])
    plain: dict[str, Any] = {"samples": 8, "batch": 4, "sensitivity": "none", "eval_items": 0}
    recipe = QuantizeRecipe(engine=engine, observer=observer, **plain)
    found = Quantization.load(quantize(model, data, tmp_path / "out", recipe))
    assert (found.engine, found.observer) == (engine, observer)
    assert f"{observer} by {engine} over 8" in (tmp_path / "out/README.md").read_text()
    assert f"{observer}, found by {engine}" in run("inspect", tmp_path / "out")[1]
    wanted = calibrate(captioner, seen, brute)
    assert found.int8_layers == list(wanted)
    for path, want in wanted.items():
        got = found.layers[path]
        assert want is not None and got.input_range is not None
        scale, zero = affine(*want)
        # NNCF moves an end of the range so that zero is a step; we round the step of zero.
        assert got.input_scale == pytest.approx(scale, rel=2 / 255), path
        assert got.input_zero_point is not None and abs(got.input_zero_point - zero) <= 1, path
    recipe = QuantizeRecipe(observer="min-max", **plain)
    ours = Quantization.load(quantize(model, data, tmp_path / "ours", recipe))
    feeds = feeds_of(captioner, seen)
    assert agreement(model, found, feeds) > agreement(model, ours, feeds) - worse


@torch.no_grad()
def agreement(model: Path, quantization: Quantization, feeds: list[Feed]) -> float:
    """Signal to noise of the 8-bit model's logits, in decibel."""
    original, noise = load_model(model), Noise()
    eight = load_model(model)
    apply_quantization(eight.blip, quantization)
    for feed in feeds:
        noise.add(Whole(original)(*feed)[0], Whole(eight)(*feed)[0])
    return noise.db


@torch.no_grad()
def test_one_pass_reads_what_the_calls_of_a_task_read(
    captioner: Model, asked: Path, task: Task
) -> None:
    """The network that engines look at shows each layer the values of matching, answering, …"""
    model = trained(captioner, task)
    rows = uses_of(task, Dataset.open(asked), model.preprocess, samples=3, seed=1)
    wanted = calibrate(model, rows, MinMax)
    whole, watches = Whole(model), {path: MinMax() for path in wanted}
    for path, layer in quantizable_layers(model.blip).items():
        module = model.blip.get_submodule(path)
        assert layer is module or path.endswith("predictions.decoder")
        module.register_forward_pre_hook(
            lambda _, inputs, watch=watches[path]: watch.see(inputs[0])
        )
    for feed in feeds_of(model, rows):
        whole(*feed)
    for path, watch in watches.items():
        got, want = watch.span(), wanted[path]
        assert got is not None and want is not None, path
        torch.testing.assert_close(torch.tensor(got), torch.tensor(want), rtol=1e-4, atol=1e-5)


def test_autotune_takes_the_first_way_that_the_metric_likes(
    model: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("neural_compressor")
    asked_for: list[float | None] = []

    def measure(folder: Path) -> float:
        if not Quantization.is_in(folder):
            return 100.0
        scale = next(iter(Quantization.load(folder).layers.values())).input_scale
        asked_for.append(scale)
        return 99.5 if asked_for.index(scale) >= 1 else 90.0  # the second way, and later

    recipe = QuantizeRecipe(
        engine="neural-compressor",
        observer="autotune",
        sensitivity="none",
        samples=4,
        batch=4,
        eval_items=4,
    )
    found = Quantization.load(quantize(model, data, tmp_path / "out", recipe, measure=measure))
    assert len(set(asked_for)) == 2 and asked_for[-1] == asked_for[1]
    first = next(iter(found.layers.values()))
    assert first.input_scale == asked_for[1] and "autotune of neural-compressor" in first.why
    assert found.metric is not None and found.metric["int8"] == 99.5


@pytest.mark.parametrize("engine", PACKAGES)
def test_a_package_that_is_missing_is_told_before_any_work(
    engine: EngineName, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[engine], None)
    extra = {"neural-compressor": "inc", "nncf": "nncf", "onnxruntime": "onnx"}[engine]

    def missing(name: str, package: str | None = None) -> Any:
        if name.split(".")[0] == PACKAGES[engine]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, package)

    original = importlib.import_module
    monkeypatch.setattr("blip_edge.errors.import_module", missing)
    with pytest.raises(MissingExtraError, match=rf"blip-edge\[{extra}\]"):
        quantize(model, data, tmp_path / "out", QuantizeRecipe(engine=engine))
    assert not (tmp_path / "out").exists()


def test_an_engine_or_observer_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"engine: .*did you mean 'onnxruntime'\?"):
        load(QuantizeRecipe, "quantize", overrides=["engine=onnx-runtime"])
    with pytest.raises(UsageError, match=r"onnxruntime has no observer 'mse'; it has min-max"):
        QuantizeRecipe(engine="onnxruntime", observer="mse")
    with pytest.raises(UsageError, match="mode dynamic has none"):
        QuantizeRecipe(engine="nncf", mode="dynamic")
    assert QuantizeRecipe(engine="nncf", mode="dynamic", decoder_mode="static").engine == "nncf"
    with pytest.raises(UsageError, match="eval_items"):
        QuantizeRecipe(
            engine="neural-compressor", observer="autotune", eval_items=0, sensitivity="sqnr"
        )
    for engine, observers in OBSERVERS.items():
        assert QuantizeRecipe(engine=engine).range_observer == observers[0]


def test_a_range_that_is_no_number_is_refused(
    captioner: Model, seen: Sequence[Use], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(iter(quantizable_layers(captioner.blip)))
    found = {path: (0.0, float("inf"))}
    monkeypatch.setattr(by_onnxruntime, "find_ranges", lambda *_: found)
    with pytest.raises(ArtifactError, match=path.replace(".", r"\.")):
        find_ranges(captioner, seen, QuantizeRecipe(engine="onnxruntime"))


@given(
    scale=st.floats(2.0**-20, 2.0**10, width=32),
    zero=st.integers(-128, 127),
)
def test_signed_steps_become_ours_exactly(scale: float, zero: int) -> None:
    span = span_of(scale, zero, -128, 127)
    if span is None:  # float64 cannot hold it: refused, never approximated
        return
    assert affine(*span) == (scale, zero + 128)


def test_steps_that_ours_cannot_be_are_refused() -> None:
    assert span_of(0.1, 0, -128, 127) is not None
    assert span_of(0.1, 0, -127, 127) is None, "255 of them"
    assert span_of(0.1, -5, 0, 255) is None, "zero is none of them"
    assert span_of(0.0, 0, 0, 255) is None
    assert joined((-1.0, 1.0), (-2.0, 0.5)) == (-2.0, 1.0)
    assert joined(None, (-2.0, 0.5)) == (-2.0, 0.5) and joined(None, None) is None
