"""What is asked of coremltools on a Mac; its modules are doubles with its own signatures.

No Mac, iPhone or iPad has been measured by these tests.
"""

import platform
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from blip_edge.artifact import read_json, write_json
from blip_edge.benchmarks import BenchRecipe, Record, bench
from blip_edge.benchmarks.devices.coreml import CoreMLDevice
from blip_edge.benchmarks.devices.find import find_device
from blip_edge.errors import ArtifactError, MissingExtraError, UsageError
from blip_edge.runtime.manifest import graph_sha256
from tests.unit.benchmarks.toy_bundle import write_toy

QUICK = BenchRecipe(runs=5, loads=2)
EXPERIMENTAL = "coremltools.models.ml_program.experimental"
Units = Enum("Units", ["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"])


class MLNeuralEngineComputeDevice:
    pass


class MLCPUComputeDevice:
    pass


class Session:
    stopped = 0

    def stop(self) -> None:
        Session.stopped += 1


@dataclass
class Phone:
    name: str = "Ada's iPhone"
    identifier: str = "ID-1"
    udid: str = "UDID-1"
    os_version: str = "26.1"
    os_build_number: str = "23B1"
    type: Any = field(default_factory=lambda: SimpleNamespace(value="iphone"))
    session: Any = None

    async def prepare_for_model_debugging(self) -> "Phone":
        return Phone(session=Session())


class Benchmarker:
    """MLModelBenchmarker of coremltools 9, perf_utils.py."""

    asked: list[tuple[Any, ...]]

    def __init__(self, model: Any, device: Any = None) -> None:
        self.model, self.device = model, device

    async def benchmark_load(self, iterations: int = 1) -> Any:
        return SimpleNamespace(samples=[4.0] * iterations)

    async def benchmark_predict(
        self, inputs: Any = None, iterations: int = 1, warmup: bool = False
    ) -> Any:
        Benchmarker.asked.append((self.model, self.device, inputs, warmup))
        return SimpleNamespace(samples=[1.0 + n for n in range(iterations)])

    async def benchmark_operation_execution(
        self, inputs: Any = None, iterations: int = 1, warmup: bool = False
    ) -> Any:
        places = (
            MLNeuralEngineComputeDevice(),
            MLNeuralEngineComputeDevice(),
            MLCPUComputeDevice(),
        )
        usages: list[Any] = [SimpleNamespace(preferred_compute_device=place) for place in places]
        return [SimpleNamespace(compute_device_usage=usage) for usage in (*usages, None)]


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> list[Phone]:
    """coremltools as on a Mac with these phones beside it."""
    phones = [Phone()]
    Benchmarker.asked = []
    tools: Any = ModuleType("coremltools")
    tools.ComputeUnit = Units
    tools.models = SimpleNamespace(
        MLModel=lambda path, compute_units, function_name: (path, compute_units.name, function_name)
    )
    perf: Any = ModuleType("perf_utils")
    perf.MLModelBenchmarker = Benchmarker
    remote: Any = ModuleType("remote_device")
    remote.Device = SimpleNamespace(get_devices=lambda: phones)
    monkeypatch.setitem(sys.modules, "coremltools", tools)
    monkeypatch.setitem(sys.modules, f"{EXPERIMENTAL}.perf_utils", perf)
    monkeypatch.setitem(sys.modules, f"{EXPERIMENTAL}.remote_device", remote)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    return phones


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that says it is for Core ML; nothing here opens its graphs."""
    pytest.importorskip("onnx")
    folder = write_toy(tmp_path / "toy")
    manifest = read_json(folder / "manifest.json")
    for graph in manifest["graphs"].values():
        graph["sha256"] = graph_sha256(folder / graph["file"])
    write_json(folder / "manifest.json", manifest | {"target": "coreml"})
    (folder / "SHA256SUMS").unlink()
    return folder


def measured(bundle: Path, which: str) -> Record:
    [record] = bench([bundle], device=find_device(f"coreml:{which}"), recipe=QUICK)
    return record


def test_every_graph_is_timed_on_every_unit(
    mac: list[Phone], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blip_edge.benchmarks import Machine

    facts = Machine(cpu="M4", arch="arm64", isa=(), cores=4, memory_bytes=1, os="m", python="3")
    monkeypatch.setattr("blip_edge.benchmarks.devices.coreml.machine", lambda: facts)
    record = measured(bundle, "local")
    assert (record["where"], record["complete"]) == ("coreml:local", True)
    assert record["p50_ms"] is None, "a caption as a whole was not measured"
    assert any("one by one" in note for note in record["notes"])
    graphs = record["graphs"]
    assert graphs is not None
    assert graphs.keys() == {"vision", "decoder"}
    assert graphs["vision"].keys() == {"ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"}
    row = graphs["decoder"]["CPU_AND_NE"]
    assert row["load_ms"] == [4.0, 4.0]
    assert (row["p50_ms"], len(row["samples_ms"])) == (3.0, 5)
    assert row["operators"] == {"NeuralEngine": 2, "CPU": 1, "none": 1}
    assert all(device is None and warmup for _, device, _, warmup in Benchmarker.asked)
    inputs = Benchmarker.asked[-1][2]
    assert inputs["input_ids"].dtype.name == "int32"
    assert not inputs["input_ids"].any(), "ids that the vocabulary has"


def test_a_function_of_a_file_is_what_is_timed(mac: list[Phone], bundle: Path) -> None:
    manifest = read_json(bundle / "manifest.json")
    manifest["graphs"]["decoder"]["function"] = "decoder"
    write_json(bundle / "manifest.json", manifest)
    measured(bundle, "ID-1")
    functions = {Path(path).stem: function for (path, _, function), *_ in Benchmarker.asked}
    assert functions == {"vision": None, "decoder": "decoder"}


@pytest.mark.parametrize("which", ["Ada's iPhone", "ID-1", "UDID-1"])
def test_a_connected_phone_is_found_and_its_runner_ended(
    mac: list[Phone], bundle: Path, which: str
) -> None:
    before = Session.stopped
    record = measured(bundle, which)
    assert record["device"]["cpu"] == "Ada's iPhone"
    assert record["device"]["os"] == "26.1"
    assert {type(device) for _, device, _, _ in Benchmarker.asked} == {Phone}
    assert Session.stopped == before + 1


def test_a_phone_that_is_not_there_is_named(mac: list[Phone], bundle: Path) -> None:
    with pytest.raises(ArtifactError, match="no Apple device 'Bob'; connected: Ada's iPhone"):
        measured(bundle, "Bob")


def test_elsewhere_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    with pytest.raises(UsageError, match="takes a Mac"):
        CoreMLDevice("local")
    with pytest.raises(UsageError, match="coreml:DEVICE"):
        find_device("coreml")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingExtraError, match="coreml"):
        CoreMLDevice("local")


@pytest.mark.slow
def test_the_doubles_have_the_signatures_of_coremltools() -> None:
    """The modules that a Mac would have are here too; only what they call is not."""
    pytest.importorskip("coremltools")
    import inspect
    from importlib import import_module

    real = import_module(f"{EXPERIMENTAL}.perf_utils").MLModelBenchmarker
    for name in ("benchmark_load", "benchmark_predict", "benchmark_operation_execution"):
        assert list(inspect.signature(getattr(real, name)).parameters) == list(
            inspect.signature(getattr(Benchmarker, name)).parameters
        )
    device = import_module(f"{EXPERIMENTAL}.remote_device").Device
    assert {
        "name",
        "identifier",
        "udid",
        "os_version",
        "os_build_number",
        "type",
        "session",
    } <= set(device.__dataclass_fields__)
    assert callable(device.get_devices) and callable(device.prepare_for_model_debugging)
    units = import_module("coremltools").ComputeUnit
    assert {unit.name for unit in Units} <= {unit.name for unit in units}
