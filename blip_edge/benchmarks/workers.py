"""The parent's side of `worker`: start one, ask it, and end it whatever happens."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

from blip_edge.benchmarks.job import Sample, as_json, failure
from blip_edge.errors import BlipEdgeError
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.engine import Task

__all__ = ["Worker", "WorkerProcess", "command"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PATIENCE_SECONDS = 10.0


class Worker(Protocol):
    """A bundle, open in a process of its own."""

    @property
    def greeting(self) -> dict[str, Any]:
        """`load_ms`, `simulated`."""
        ...

    def run(self, asked: Sequence[Asked]) -> list[Sample]:
        """Ask this, one thing after the other."""
        ...

    def calibrate(self, target: str) -> dict[str, float | None] | None:
        """What the engine of `target` reaches at its best; see `calibration`."""
        ...

    def profile(self, asked: Sequence[Asked]) -> list[dict[str, Any]] | None:
        """Ask this under the engine's profiler; see `operators`."""
        ...

    def stop(self) -> int | None:
        """End the process; its peak memory in bytes."""
        ...

    def kill(self) -> None:
        """End the process at once; nothing happens when it has ended."""
        ...


def command(bundle: Path, threads: int, task: Task) -> list[str]:
    """The command line of the worker for `bundle`."""
    # -P: a file of the user's working directory must not stand in for a module of ours.
    program = [sys.executable, "-P", "-m", "blip_edge.benchmarks.worker"]
    return [*program, str(bundle), str(threads), task]


class WorkerProcess:
    """A `Worker` behind pipes. It is open, and has greeted, when the constructor returns.

    Raises:
        BlipEdgeError: the worker's own error, or that it died.
    """

    def __init__(
        self, bundle: Path, threads: int, task: Task, argv: Sequence[str] | None = None
    ) -> None:
        self._name = bundle.name
        # A file and not a pipe: nobody reads along, and a full pipe would stop the engine.
        self._stderr = TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            argv if argv is not None else command(bundle, threads, task),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
            env=_environment(threads),
        )
        try:
            self.greeting = self._read()
        except BaseException:
            self.kill()
            raise

    def run(self, asked: Sequence[Asked]) -> list[Sample]:
        """Ask this, one thing after the other."""
        samples: list[Sample] = self._ask({"asked": [as_json(one) for one in asked]})["samples"]
        return samples

    def calibrate(self, target: str) -> dict[str, float | None] | None:
        """What the engine of `target` reaches at its best; see `calibration`."""
        found: dict[str, float | None] | None = self._ask({"calibrate": target})["calibration"]
        return found

    def profile(self, asked: Sequence[Asked]) -> list[dict[str, Any]] | None:
        """Ask this under the engine's profiler; see `operators`."""
        answer = self._ask({"profile": [as_json(one) for one in asked]})
        found: list[dict[str, Any]] | None = answer["operators"]
        return found

    def stop(self) -> int | None:
        """End the process; its peak memory in bytes."""
        peak: int | None = self._ask({"stop": True})["peak_memory_bytes"]
        # An engine that hangs in its destructor has no say any more.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_SECONDS)
        self.kill()
        return peak

    def kill(self) -> None:
        """End the process at once; nothing happens when it has ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            with suppress(BrokenPipeError):  # unsent words to a dead process
                if stream is not None:
                    stream.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died; reading tells why
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._stderr.seek(0)
            last = (self._stderr.read().strip().splitlines() or ["it said nothing"])[-1]
            raise BlipEdgeError(f"{self._name}: the timing process ended with {code}: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise failure(answer["error"])
        return answer


def _environment(threads: int) -> dict[str, str]:
    """This process's environment with the thread counts fixed and this package findable."""
    root = str(Path(__file__).parents[2])
    paths = [path for path in (os.environ.get("PYTHONPATH"), root) if path]
    fixed = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return os.environ | fixed | {"PYTHONPATH": os.pathsep.join(paths)}
