"""The variants of `cpu_inference.py`, and the process that each has to itself."""

import json
import resource
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cpu_bundles import BUNDLES
from cpu_tasks import ModelName, Sizes, inputs

# For an answer; a compiler that needs longer for the first one is given up.
_PATIENCE_S, _COMPILER_S = 1800.0, 180.0


class Variant(NamedTuple):
    """Who answers, and in which precision."""

    what: str
    precision: str


VARIANTS = {
    "hf-fp32": Variant("transformers, eager float32", "fp32"),
    "hf-bf16": Variant("transformers, eager bf16", "bf16"),
    "hf-fp32-compiled": Variant("transformers, torch.compile, float32", "fp32"),
    "hf-bf16-compiled": Variant("transformers, torch.compile, bf16", "bf16"),
    "plain-openvino": Variant("three plain parts, OpenVINO, float32", "fp32"),
    "plain-openvino-default": Variant("three plain parts, OpenVINO, its own bf16", "bf16"),
    "plain-onnx": Variant("three plain parts, ONNX Runtime, dynamic int8", "int8"),
    "onnx-fp32": Variant("blip-edge, ONNX Runtime, float32", "fp32"),
    "openvino-fp32": Variant("blip-edge, OpenVINO, float32", "fp32"),
    "onnx-int8": Variant("blip-edge, ONNX Runtime, int8", "int8"),
    "openvino-int8": Variant("blip-edge, OpenVINO, int8", "int8"),
    "onnx-int4": Variant("blip-edge, ONNX Runtime, int8, its decoder in 4 bits", "int4"),
    "mixed-fp32": Variant("blip-edge, encoders=openvino, float32", "fp32"),
    "mixed-int8": Variant("blip-edge, encoders=openvino, int8", "int8"),
    "mixed-int4": Variant("blip-edge, encoders=openvino, int8, its decoder in 4 bits", "int4"),
}


def prepare(folder: Path, model: ModelName, sizes: Sizes, wanted: set[str]) -> dict[str, str]:
    """Make what `wanted` variants run; why some could not be made."""
    import cpu_bundles
    from cpu_exported import export_plain

    failed = cpu_bundles.prepare(folder, model, sizes, wanted)
    plain = {name for name in wanted if name.startswith("plain")}
    if plain:
        try:
            export_plain(folder / model, model)
        except Exception as error:  # whatever the exporters throw at people
            failed |= dict.fromkeys(plain, _line(error))
    return failed


def _open(name: str, folder: Path, task: str, given: Any) -> Any:
    if name in BUNDLES:
        from cpu_ours import Ours

        return Ours(folder / name, task, given)
    if name.startswith("plain"):
        from cpu_exported import Exported

        return Exported(folder, task, given, runtime=name.removeprefix("plain-"))
    from cpu_rivals import HuggingFace

    return HuggingFace(folder, task, given, half="bf16" in name, faster=name.endswith("compiled"))


def work(name: str, folder: Path, sizes: Sizes, task: str) -> None:
    """A worker: a JSON line for every line that it is sent, the first a check."""
    from cpu_tasks import TASKS

    model = folder / TASKS[task].model
    try:
        asked = _open(name, model, task, inputs(model / "hf", sizes))
        checked = {"answer": asked.run()[0], "file_bytes": asked.file_bytes, "forced": None}
        if task == "caption-greedy":
            path = model / f"forced-{name}.npy"
            np.save(path, asked.forced())
            checked["forced"] = str(path)
    except Exception as error:  # of whichever library it is: told in the record
        checked = {"error": _line(error)}
    sys.stdin.readline()
    print(json.dumps(checked), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        _, stages = asked.run()
        row = {
            "wall_ms": 1e3 * (time.perf_counter() - wall),
            "cpu_ms": 1e3 * (time.process_time() - cpu),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "stages": stages,
        }
        print(json.dumps(row), flush=True)


def _line(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"[:200]


class Failed(Exception):
    """A worker that cannot race, in one line."""


class Worker:
    """A variant's process."""

    def __init__(self, argv: list[str]) -> None:
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def check(self, *, compiles: bool) -> dict[str, Any]:
        """Its first answer, what it computes, and the bytes of its files.

        Raises:
            Failed: it took too long, or ended.
        """
        found = self._ask(_COMPILER_S if compiles else _PATIENCE_S)
        if "error" in found:
            raise Failed(found["error"])
        return found

    def step(self) -> dict[str, Any]:
        """One answer, and what it took.

        Raises:
            Failed: as for `check`.
        """
        return self._ask(_PATIENCE_S)

    def _ask(self, patience: float) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print("go", file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise Failed("it ended by itself") from None
        if not select.select([self._process.stdout], [], [], patience)[0]:
            raise Failed(f"nothing came within {patience:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise Failed("it ended by itself")
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
