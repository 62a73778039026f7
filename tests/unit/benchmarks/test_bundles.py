"""The whole protocol with real processes and real engines, on the smallest graphs there are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blip_edge.artifact import read_json
from blip_edge.benchmarks import BenchRecipe, bench
from blip_edge.benchmarks.load_guard import BUSY, busy_seconds
from blip_edge.benchmarks.stopwatch import TIMES
from blip_edge.errors import ArtifactError
from tests.unit.benchmarks.test_load_guard import neighbour
from tests.unit.benchmarks.toy_bundle import write_toy

RECIPE = BenchRecipe(runs=6, warmup=2, seconds=0.0, burst=2, loads=2)
# Times are rounded to a tenth of a microsecond before they are added.
ROUNDED_MS = 1e-3


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_toy(tmp_path / "toy")


def test_a_bundle_is_timed_in_its_own_process(bundle: Path) -> None:
    [record] = bench([bundle], recipe=RECIPE, threads=1)
    samples = record["samples"]
    assert len(samples["total_ms"]) == 6
    assert set(TIMES) - {"read_ms"} <= set(record["stats"])
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


@pytest.mark.skipif(busy_seconds() is None, reason="this system does not tell")
def test_a_load_generator_beside_it_makes_a_record_noisy(bundle: Path) -> None:
    with neighbour():
        [record] = bench([bundle], recipe=replace(RECIPE, seconds=0.5, loads=1), threads=1)
    assert record["noisy"]
    assert record["others"] is not None and record["others"] > BUSY
    assert any(note.startswith("noisy: others had") for note in record["notes"])


def test_a_tampered_bundle_is_refused_by_its_process(bundle: Path) -> None:
    with (bundle / "vision.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ArtifactError, match="changed after export"):
        bench([bundle], recipe=RECIPE, threads=1)
    assert read_json(bundle / "manifest.json")["latency"] == []
