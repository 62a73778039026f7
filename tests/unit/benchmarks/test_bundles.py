"""The whole protocol with real processes and real engines, on the smallest graphs there are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blip_edge.artifact import read_json, write_json
from blip_edge.benchmarks import BenchRecipe, bench
from blip_edge.benchmarks.stopwatch import TIMES
from blip_edge.errors import ArtifactError
from tests.unit.runtime import toy
from tests.unit.runtime.toy_onnx import write_onnx

RECIPE = BenchRecipe(runs=6, warmup=2, seconds=0.0, burst=2, loads=2)
# Times are rounded to a tenth of a microsecond before they are added.
ROUNDED_MS = 1e-3


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "toy"
    folder.mkdir()
    write_onnx(folder)
    toy.write_bundle(folder, "onnx", {"vision": "vision.onnx", "decoder": "decoder.onnx"})
    manifest = read_json(folder / "manifest.json")
    for graph in manifest["graphs"].values():
        graph["bytes"] = (folder / graph["file"]).stat().st_size
    write_json(folder / "manifest.json", manifest)
    golden = folder / "golden"
    golden.mkdir()
    rows: list[dict[str, Any]] = []
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (20, 12), colour).save(golden / name)
        rows.append({"images": [name]})
    write_json(golden / "golden.json", rows)
    return folder


def test_a_bundle_is_timed_in_its_own_process(bundle: Path) -> None:
    [record] = bench([bundle], recipe=RECIPE, threads=1)
    samples = record["samples"]
    assert len(samples["total_ms"]) == 6
    assert set(TIMES) <= set(record["stats"])
    parts = [samples[name] for name in ("preprocess_ms", "vision_ms", "decode_ms")]
    np.testing.assert_allclose(np.sum(parts, axis=0), samples["total_ms"], atol=ROUNDED_MS)
    assert np.all(np.asarray(samples["step_ms"]) <= np.asarray(samples["decode_ms"]))
    assert np.all(np.asarray(samples["steps"]) >= 1)
    assert np.all(np.asarray(samples["tokens"]) >= 1)
    assert len(record["load_ms"]) == len(record["first_ms"]) == 2
    assert record["peak_memory_bytes"] is not None
    assert record["peak_memory_bytes"] > 20 << 20  # an interpreter with numpy and an engine
    assert record["device"]["peaks"]["gemm_gflops"] > 0
    [row] = read_json(bundle / "manifest.json")["latency"]
    assert row["p50_ms"] == record["p50_ms"]


def test_a_tampered_bundle_is_refused_by_its_process(bundle: Path) -> None:
    with (bundle / "vision.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ArtifactError, match="changed after export"):
        bench([bundle], recipe=RECIPE, threads=1)
    assert read_json(bundle / "manifest.json")["latency"] == []
