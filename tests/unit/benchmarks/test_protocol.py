"""The records that come out of a measurement, and what it refuses."""

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import blip_edge.benchmarks.measuring as measuring
import blip_edge.benchmarks.protocol as room
from blip_edge.artifact import read_json, write_json
from blip_edge.benchmarks import BenchRecipe, Record, bench, save
from blip_edge.benchmarks.job import Sample
from blip_edge.benchmarks.machine import Machine, Peaks
from blip_edge.errors import ArtifactError, MissingExtraError, UsageError
from blip_edge.recipe import load
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.engine import Task
from tests.unit.benchmarks.fake_worker import MANIFEST, FakeWorker, Quiet, asked, quick

GOLDEN: dict[str, Any] = {"task": "caption", "images": ["a.png"], "texts": []}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder that looks like a bundle, with one golden picture."""
    return make_bundle(tmp_path / "small")


def make_bundle(folder: Path, **changes: Any) -> Path:
    (folder / "golden").mkdir(parents=True)
    write_json(folder / "manifest.json", MANIFEST | changes)
    for name in ("vision.onnx", "decoder.onnx", "tokenizer.json"):
        (folder / name).write_text("{}")
    pixels = np.zeros((8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "golden" / "a.png")
    write_json(folder / "golden" / "golden.json", [GOLDEN])
    return folder


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[FakeWorker]:
    """Every worker that `bench` opens; none is a process, and the machine is not measured."""
    opened: list[FakeWorker] = []

    def start(bundle: Path, threads: int, task: Task) -> FakeWorker:
        worker = FakeWorker(bundle.name, simulated=bundle.name == "coreml")
        opened.append(worker)
        return worker

    quiet = Machine(
        cpu="cpu", arch="arch", isa=(), cores=2, memory_bytes=1, os="os", python="3",
        load_average=0.0,
    )  # fmt: skip
    monkeypatch.setattr(room, "WorkerProcess", start)
    monkeypatch.setattr(room, "LoadGuard", Quiet)
    monkeypatch.setattr(room, "machine", lambda measure: quiet)
    return opened


def test_a_record_says_everything(bundle: Path, workers: list[FakeWorker]) -> None:
    [record] = bench([bundle], recipe=quick(loads=2), threads=2)
    assert record["schema_version"] == 2
    assert (record["name"], record["target"], record["precision"]) == ("small", "onnx", "int8")
    assert record["bytes"] == 1000
    assert record["load_ms"] == [5.0, 5.0]
    assert record["first_ms"] == [1.0, 1.0]
    assert len(record["samples"]["total_ms"]) == record["stats"]["total_ms"]["n"] == 6
    assert record["p50_ms"] == record["p90_ms"] == 1.0
    assert record["stats"]["vision_ms"]["p50_ms"] == 0.25
    assert record["tokens_per_s"] == 8000.0
    assert record["peak_memory_bytes"] == 123_456_789
    assert record["settings"]["threads"] == 2
    assert record["settings"]["image_files"] == ["a.png"]
    assert record["settings"]["decode"]["num_beams"] == 3
    assert record["notes"] == []
    assert (record["where"], record["complete"]) == ("local", True)
    assert (record["noisy"], record["throttled"]) == (False, False)
    assert record["compared"] is None
    assert record["p50_by_minute_ms"] == []
    assert [worker.stopped for worker in workers] == [1, 1]
    assert workers[-1].killed


def test_joules_are_those_of_a_bundles_own_bursts(
    tmp_path: Path, workers: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counter:
        """Ten joules between bursts, which are nobody's; two during each of `b`, one of `a`."""

        def __init__(self) -> None:
            self.laps = itertools.cycle([10.0, 1.0, 10.0, 2.0, 10.0, 2.0, 10.0, 1.0])

        def lap(self) -> float | None:
            return next(self.laps)

    monkeypatch.setattr(room, "metered", lambda: nullcontext(Counter()))
    bundles = [make_bundle(tmp_path / name) for name in "ab"]
    records = bench(bundles, recipe=quick(loads=1, runs=4, burst=2))
    assert [record["joules_per_caption"] for record in records] == [0.5, 1.0]
    monkeypatch.setattr(Counter, "lap", lambda self: None)
    records = bench(bundles, recipe=quick(loads=1))
    assert [record["joules_per_caption"] for record in records] == [None, None]


def test_an_engine_that_tells_no_operators_gets_a_line(
    bundle: Path, workers: list[FakeWorker]
) -> None:
    [record] = bench([bundle], recipe=quick(loads=1), profile=True)
    assert record["operators"] is None
    assert record["notes"] == ["onnx on local does not tell which operators take the time"]
    assert len(workers) == 2 and all(worker.killed for worker in workers)  # profiled by itself
    [record] = bench([bundle], recipe=quick(loads=1))
    assert record["notes"] == []


COOL = Machine(
    cpu="cpu", arch="a", isa=(), cores=2, memory_bytes=1, os="o", python="3",
    peaks=Peaks(gemm_gflops=120.0, copy_gb_per_s=10.0),
)  # fmt: skip


@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.1), ("fp32", 0.4)])
def test_a_stage_whose_work_is_known_is_held_to_the_roof(
    tmp_path: Path,
    workers: list[FakeWorker],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    bound: float,
) -> None:
    monkeypatch.setattr(room, "machine", lambda measure: COOL)
    monkeypatch.setattr(room, "gemm_gflops", lambda: 120.0)
    vision = MANIFEST["graphs"]["vision"] | {"macs": 20_000_000}
    cross = {"cross_key_0": {"shape": [1, 4, 6, 8], "dtype": "float32"}}
    decoder = MANIFEST["graphs"]["decoder"] | {"bytes": 300_000, "inputs": cross}
    graphs = {"vision": vision, "decoder": decoder}
    bundle = make_bundle(tmp_path / "known", graphs=graphs, precision=precision)
    [record] = bench([bundle], recipe=quick(loads=1), profile=True)
    assert record["calibration"] == {"fp32_gflops": 100.0, "int8_gflops": 400.0}
    # 40 M operations; the fake worker takes a quarter of a millisecond for the stage.
    share = pytest.approx(bound / 0.25)
    assert record["reached"] == {
        "vision": {"macs": 20_000_000, "bound_ms": pytest.approx(bound), "share": share},
        # 300 kB of graph and 4 · 6 · 8 floats at 10 GB/s; a step takes a twelfth of a millisecond.
        "step": {"bytes": 300_768, "bound_ms": 0.0301, "share": pytest.approx(0.3609)},
    }
    [unknown] = bench([make_bundle(tmp_path / "unknown")], recipe=quick(loads=1), profile=True)
    assert unknown["reached"] is not None and list(unknown["reached"]) == ["step"]
    cross["cross_key_0"]["shape"] = [1, 4, 6, "N"]
    asked = make_bundle(tmp_path / "asked", graphs={"vision": vision, "decoder": decoder})
    [free] = bench([asked], recipe=quick(loads=1), profile=True)
    assert list(free["reached"] or {}) == ["vision"], "of a question's length nothing is known"
    [plain] = bench([bundle], recipe=quick(loads=1))
    assert (plain["reached"], plain["calibration"]) == (None, None)


def test_the_manifest_gets_the_row_and_keeps_the_rest(
    bundle: Path, workers: list[FakeWorker]
) -> None:
    first = bench([bundle], recipe=quick(loads=1))[0]
    second = bench([bundle], recipe=quick(loads=1))[0]
    manifest = read_json(bundle / "manifest.json")
    assert [row["p50_ms"] for row in manifest["latency"]] == [1.0, 1.0]
    assert "samples" not in manifest["latency"][0]
    assert {key: manifest[key] for key in MANIFEST if key != "latency"} == {
        key: value for key, value in MANIFEST.items() if key != "latency"
    }
    assert first["sha256"] == second["sha256"]  # noting a latency does not make it another bundle


def test_another_graph_is_another_bundle(tmp_path: Path, workers: list[FakeWorker]) -> None:
    one, two = make_bundle(tmp_path / "one"), make_bundle(tmp_path / "two", precision="fp32")
    records = bench([one, two], recipe=quick(loads=1))
    assert records[0]["sha256"] != records[1]["sha256"]
    assert records[0]["settings"]["interleaved_with"] == ["one", "two"]


def test_a_hot_machine_is_told_by_its_matrix_products(
    bundle: Path, workers: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "machine", lambda measure: COOL)
    monkeypatch.setattr(room, "gemm_gflops", lambda: 100.0)
    [record] = bench([bundle], recipe=quick(loads=1))
    assert record["gemm_slowdown"] == 1.2
    assert record["throttled"]
    assert any("matrix products were 20% slower" in note for note in record["notes"])


def test_a_long_measurement_is_told_by_the_minute(
    bundle: Path, workers: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 20)
    monkeypatch.setattr(room, "monotonic", lambda: float(next(clock)))
    times = itertools.count(1)
    monkeypatch.setattr(
        FakeWorker,
        "run",
        lambda self, images: [
            {"total_ms": float(next(times)), "cpu_ms": 1.0, "tokens": 1} for _ in images
        ],
    )
    [record] = bench([bundle], recipe=quick(runs=5, loads=1, warmup=0, burst=1))
    assert record["samples"]["at_s"] == [20, 40, 60, 80, 100]
    assert record["p50_by_minute_ms"] == [2.5, 5.0]  # the first caption was not a warm one


def test_rivals_are_compared_with_an_interval(tmp_path: Path, workers: list[FakeWorker]) -> None:
    one, two = make_bundle(tmp_path / "one"), make_bundle(tmp_path / "two")
    first, second = bench([one, two], recipe=quick(loads=1), compare=True)
    assert first["compared"] is None
    assert second["compared"] == {"with": "one", "ratio": 1.0, "low": 1.0, "high": 1.0}
    with pytest.raises(UsageError, match="at least two"):
        bench([one], recipe=quick(), compare=True)


def test_it_rests_before_it_starts(
    bundle: Path, workers: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(room, "sleep", slept.append)
    bench([bundle], recipe=quick(loads=1, cooldown=300.0))
    assert slept == [300.0]


def test_what_is_only_simulated_has_no_latency(
    tmp_path: Path, bundle: Path, workers: list[FakeWorker]
) -> None:
    apple = make_bundle(tmp_path / "coreml", target="coreml", precision="fp16")
    records = bench([apple, bundle], recipe=quick(loads=1))
    assert records[0]["p50_ms"] is records[0]["peak_memory_bytes"] is None
    assert "simulated" in records[0]["notes"][0]
    assert records[0]["stats"] == {}
    assert records[0]["samples"] == {}
    assert records[1]["p50_ms"] == 1.0
    assert workers[0].killed


def test_a_busy_machine_and_a_tiring_one_are_noted(
    bundle: Path, workers: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    slower = itertools.count(1)
    monkeypatch.setattr(
        FakeWorker,
        "run",
        lambda self, images: [
            {"total_ms": float(next(slower)), "cpu_ms": 1.0, "tokens": 1} for _ in images
        ],
    )
    monkeypatch.setattr(Quiet, "others", lambda self: 0.4)
    [record] = bench([bundle], recipe=quick(runs=16, loads=1))
    assert record["throttled"] and record["noisy"]
    assert record["others"] == 0.4
    assert any("slower" in note for note in record["notes"])
    assert any("noisy: others had 40%" in note for note in record["notes"])
    assert "vision_ms" not in record["stats"]
    assert record["tokens_per_s"] is None


def test_every_worker_is_ended_when_one_fails(
    tmp_path: Path, bundle: Path, workers: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_bundle(tmp_path / "other")

    def fail(self: FakeWorker, images: Sequence[str]) -> list[Sample]:
        if self.name == "other":
            raise MissingExtraError("openvino is not installed")
        return [{"total_ms": 1.0, "cpu_ms": 1.0, "tokens": 1} for _ in images]

    monkeypatch.setattr(FakeWorker, "run", fail)
    with pytest.raises(MissingExtraError):
        bench([bundle, other], recipe=quick(loads=1))
    assert all(worker.killed for worker in workers)
    assert read_json(bundle / "manifest.json")["latency"] == []


def test_records_are_saved_whole(bundle: Path, tmp_path: Path, workers: list[FakeWorker]) -> None:
    records = bench([bundle], recipe=quick(loads=1))
    save(records, tmp_path / "latency.json")
    assert read_json(tmp_path / "latency.json") == records
    with pytest.raises(ArtifactError, match="cannot be written"):
        save(records, tmp_path / "latency.json" / "below.json")


def test_a_bundle_that_cannot_be_written_is_still_timed(
    bundle: Path, workers: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path, record: Record) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(measuring, "note_latency", refuse)
    [record] = bench([bundle], recipe=quick(loads=1))
    assert record["p50_ms"] == 1.0
    assert record["notes"] == ["not noted in the bundle: Read-only file system"]


@pytest.mark.parametrize(
    ("names", "threads", "words"),
    [([], None, "nothing to time"), (["small"] * 2, None, "twice"), (["small"], 0, "threads")],
)
def test_what_makes_no_sense_is_refused(
    bundle: Path, workers: list[FakeWorker], names: list[str], threads: int | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        bench([bundle.parent / name for name in names], recipe=quick(), threads=threads)


def test_a_match_is_of_one_text_the_pictures_own(
    tmp_path: Path, workers: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A golden row has others to compare with; a user who waits has asked about one."""
    folder = make_bundle(tmp_path / "matcher", tasks=["retrieval"])
    rows = [GOLDEN, GOLDEN | {"task": "retrieval", "texts": ["its own", "another's"]}]
    write_json(folder / "golden" / "golden.json", rows)
    seen: set[tuple[str, ...]] = set()
    run = FakeWorker.run

    def noted(worker: FakeWorker, asked: Sequence[Asked]) -> list[Sample]:
        seen.update(one.texts for one in asked)
        return run(worker, asked)

    monkeypatch.setattr(FakeWorker, "run", noted)
    [record] = bench([folder], recipe=quick(loads=1))
    assert seen == {("its own",)}
    assert record["settings"]["texts"] == ["its own"]


def test_missing_pictures_and_bundles_are_named(
    bundle: Path, tmp_path: Path, workers: list[FakeWorker]
) -> None:
    with pytest.raises(ArtifactError, match=r"none\.jpg"):
        bench([bundle], recipe=quick(), asked=asked(str(tmp_path / "none.jpg")))
    with pytest.raises(ArtifactError, match="no golden pictures"):
        bench([bundle], recipe=quick(), asked=[])
    with pytest.raises(ArtifactError, match="manifest"):
        bench([tmp_path], recipe=quick())
    write_json(bundle / "golden" / "golden.json", [GOLDEN | {"images": ["../../secret.png"]}])
    with pytest.raises(ArtifactError, match="leaves the folder"):
        bench([bundle], recipe=quick())


@pytest.mark.parametrize("name", ["quick", "normal", "submission", "sustained"])
def test_the_recipes_load(name: str) -> None:
    assert load(BenchRecipe, "benchmarks", name).runs > 0


@pytest.mark.parametrize("text", ["runs=0", "burst=0", "warmup=-1", "max_seconds=0", "rums=3"])
def test_recipes_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        load(BenchRecipe, "benchmarks", None, [text])
