"""Core ML, here on a Mac or on an iPhone or iPad beside it, through coremltools.

Each graph is timed by itself on each choice of compute units, with how many of its operators Core
ML would put on CPU, GPU and Neural Engine. A whole caption on a Mac is what `local` times.

    https://apple.github.io/coremltools/source/coremltools.models.ml_program.experimental.html
"""

import asyncio
import platform
from collections import Counter
from importlib import import_module
from typing import Any

import numpy as np

from blip_edge.benchmarks.devices.baggage import check_bundles
from blip_edge.benchmarks.job import Job, Measured
from blip_edge.benchmarks.machine import machine
from blip_edge.benchmarks.records import BenchRecipe
from blip_edge.benchmarks.stats import summarise
from blip_edge.errors import ArtifactError, UsageError, import_extra
from blip_edge.progress import Progress
from blip_edge.runtime.manifest import Graph, read_manifest

__all__ = ["CoreMLDevice"]

_UNITS = ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE")
_EXPERIMENTAL = "coremltools.models.ml_program.experimental"
_NOTE = (
    "graphs one by one, on made-up inputs: a caption takes vision once and decoder once a token; "
    "operators are where Core ML plans them"
)


class CoreMLDevice:
    """A `Device`: `local`, or a connected Apple device by name or identifier.

    Raises:
        UsageError: this machine is no Mac.
        MissingExtraError: coremltools is not installed.
    """

    targets: tuple[str, ...] = ("coreml",)

    def __init__(self, which: str) -> None:
        self.name = f"coreml:{which}"
        if not which:
            raise UsageError("coreml takes a device: coreml:local or coreml:DEVICE")
        if platform.system() != "Darwin":
            raise UsageError(f"{self.name} takes a Mac; here a Core ML bundle can only be checked")
        self._tools = import_extra("coremltools", "coreml")
        self._which = which
        self._device: Any = None
        self._measured = Measured(bundles=0)

    def prepare(self, job: Job, progress: Progress) -> None:
        """Check the bundles; on a device build and start coremltools' runner, which takes Xcode."""
        check_bundles(job.bundles)
        self._measured = Measured(bundles=len(job.bundles), where=self.name, notes=[_NOTE])
        if self._which == "local":
            self._measured.hear({"device": machine().to_json()})
            return
        found = _connected(self._which)
        progress.say(f"starting a runner on {found.name}")
        try:
            self._device = asyncio.run(found.prepare_for_model_debugging())
        except (ValueError, RuntimeError, OSError) as error:
            raise ArtifactError(f"{self.name} cannot be used: {error}") from None
        facts = {"cpu": found.name, "os": found.os_version, "build": found.os_build_number}
        self._measured.hear({"device": {**facts, "kind": found.type.value, "packages": {}}})

    def push(self, job: Job, progress: Progress) -> None:
        """Nothing: coremltools sends a graph when it loads it."""

    def run(self, job: Job, progress: Progress) -> None:
        """Time every graph on every choice of compute units."""
        for number, bundle in enumerate(job.bundles):
            graphs = {}
            for name, graph in read_manifest(bundle, check=False).graphs.items():
                progress.say(f"timing {name} of {bundle.name}")
                try:
                    graphs[name] = asyncio.run(self._time(graph, job.recipe))
                except (ValueError, RuntimeError) as error:
                    raise ArtifactError(f"{graph.path}: {self.name} fails: {error}") from None
            self._measured.hear({"bundle": number, "graphs": graphs})
        self._measured.hear({"done": True})

    def collect(self) -> Measured:
        """What was measured."""
        return self._measured

    def clean(self) -> None:
        """End the runner on the device."""
        session = getattr(self._device, "session", None)
        if session is not None:
            session.stop()

    async def _time(self, graph: Graph, recipe: BenchRecipe) -> dict[str, Any]:
        benchmarker = import_module(f"{_EXPERIMENTAL}.perf_utils").MLModelBenchmarker
        inputs, found = _inputs(graph), {}
        for unit in _UNITS:
            units = self._tools.ComputeUnit[unit]
            model = self._tools.models.MLModel(
                str(graph.path), compute_units=units, function_name=graph.function
            )
            bench = benchmarker(model, device=self._device)
            load = await bench.benchmark_load(iterations=recipe.loads)
            times = await bench.benchmark_predict(inputs, iterations=recipe.runs, warmup=True)
            plan = await bench.benchmark_operation_execution(inputs, iterations=1)
            samples = [round(float(sample), 4) for sample in times.samples]
            found[unit] = {
                "load_ms": [round(float(sample), 4) for sample in load.samples],
                "samples_ms": samples,
                "p50_ms": summarise(samples).to_json()["p50_ms"],
                "operators": dict(Counter(_place(operation) for operation in plan)),
            }
        return found


def _connected(which: str) -> Any:
    """The Apple device of that name or identifier.

    Raises:
        ArtifactError: none such is connected; says which are.
    """
    devices = import_module(f"{_EXPERIMENTAL}.remote_device").Device.get_devices()
    for device in devices:
        if which in (device.name, device.identifier, device.udid):
            return device
    names = ", ".join(device.name for device in devices) or "none"
    raise ArtifactError(f"there is no Apple device {which!r}; connected: {names}")


def _inputs(graph: Graph) -> dict[str, Any]:
    """Something of each input's shape: pixels and states at random, token ids that exist."""
    random = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for name, port in graph.inputs.items():
        shape = [size if isinstance(size, int) else 1 for size in port.shape]
        if port.dtype.startswith("int"):
            made[name] = np.zeros(shape, dtype=port.dtype)
        else:
            made[name] = random.standard_normal(shape).astype(port.dtype)
    return made


def _place(operation: Any) -> str:
    """CPU, GPU or NeuralEngine, from coremltools' class for each; none for constants."""
    usage = operation.compute_device_usage
    if usage is None:
        return "none"
    kind = type(usage.preferred_compute_device).__name__
    return kind.removeprefix("ML").removesuffix("ComputeDevice")
