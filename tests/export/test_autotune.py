"""`export --autotune`: forms are made and measured in turns, the fastest that is fit is shipped."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from blip_edge.errors import ToleranceError, UsageError
from blip_edge.exporters import ExportRecipe, autotune, export, stage, verify
from blip_edge.exporters.candidates import DECIDED

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

RECIPE = ExportRecipe(autotune=True, golden=1, tune_rounds=1, tune_loss=8)
Race = Callable[..., Mapping[str, float]]


@pytest.fixture(autouse=True)
def _two_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "candidates", lambda quantization, has: [DECIDED, "dynamic"])


def times(**milliseconds: float) -> Race:
    return lambda bundles, work, rounds: {form: milliseconds[form] for form in bundles}


def test_the_fastest_is_shipped_and_the_others_are_told(
    quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "race", times(decided=5.0, dynamic=3.0))
    bundle = export(quantized, tmp_path / "out", target="onnx", recipe=RECIPE)
    document: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    assert document["form"] == "dynamic"
    assert document["graphs"]["decoder"]["forms"] == {"dynamic": 17}
    assert [(row["form"], row["p50_ms"], row["chosen"]) for row in document["tuned"]] == [
        ("decided", 5.0, False),
        ("dynamic", 3.0, True),
    ]
    size = sum(row["bytes"] for row in document["graphs"].values())
    assert document["tuned"][1]["bytes"] == size
    assert all(row["problem"] == "" for row in document["tuned"])
    assert "| dynamic | 3 |" in (bundle / "README.md").read_text()
    assert verify(bundle, quantized).passed, "against the form that was shipped"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_form_that_is_worse_than_what_was_decided_is_passed_over(
    quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "race", times(decided=5.0, dynamic=3.0))
    monkeypatch.setattr(
        autotune, "_nearness", lambda forms, *rest: {"decided": 40.0, "dynamic": 30.0}
    )
    bundle = export(quantized, tmp_path / "out", target="onnx", recipe=RECIPE)
    document = json.loads((bundle / "manifest.json").read_text())
    assert document["form"] == "decided"
    assert document["tuned"][1]["p50_ms"] is None
    assert "30.0 dB from the float model" in document["tuned"][1]["problem"]


def test_where_none_is_fit_what_was_decided_is_kept_aside(quantized: Path, tmp_path: Path) -> None:
    recipe = ExportRecipe(autotune=True, golden=1, tune_rounds=1, int8_psnr=190.0)
    with pytest.raises(ToleranceError, match=r"at least 190.0"):
        export(quantized, tmp_path / "out", target="onnx", recipe=recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["out.rejected"]
    document = json.loads((tmp_path / "out.rejected" / "manifest.json").read_text())
    assert [row["p50_ms"] for row in document["tuned"]] == [None, None]


def test_a_real_race(quantized: Path, tmp_path: Path) -> None:
    bundle = export(quantized, tmp_path / "out", target="openvino", recipe=RECIPE)
    rows = json.loads((bundle / "manifest.json").read_text())["tuned"]
    best = min(rows, key=lambda row: row["p50_ms"])
    assert [row["chosen"] for row in rows] == [row is best for row in rows]
    assert all(row["float_psnr_db"] > 20 for row in rows)


@pytest.mark.parametrize(
    ("target", "how"),
    [("coreml", {}), ("onnx", {"precision": "fp32"}), ("executorch", {})],
)
def test_where_nothing_can_be_chosen_it_is_a_usage_error(
    target: Any, how: dict[str, Any], quantized: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        export(
            quantized, tmp_path / "out", target=target, recipe=ExportRecipe(autotune=True, **how)
        )
    assert list(tmp_path.iterdir()) == []
