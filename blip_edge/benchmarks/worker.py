"""The process that one bundle is timed in: `python -m …benchmarks.worker BUNDLE THREADS TASK`.

A fresh process per bundle keeps one engine's threads, caches and memory out of another's numbers.
It speaks JSON, a document a line. It greets with how long opening took; `{"asked": [...]}` is
answered with a sample for each; `{"profile": [...]}` with the operators that took the time of these
answers, instead of all timing; `{"calibrate": TARGET}` with what its engine reaches at its
best; `{"stop": true}` with the memory it needed, and then it ends.
A failure that a user can cause is answered with its exit code and message.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import IO, Any, cast

from blip_edge.benchmarks.job import from_json
from blip_edge.benchmarks.stopwatch import Stopwatch
from blip_edge.errors import BlipEdgeError
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import Task

__all__ = ["main", "peak_memory_bytes", "serve"]

Opener = Callable[[Path, int], Any]


def serve(
    opener: Opener, bundle: Path, threads: int, task: Task, lines: Iterable[str], out: IO[str]
) -> int:
    """Open `bundle` and answer `lines` on `out` until told to stop; the process's exit code."""

    def reply(document: dict[str, Any]) -> None:
        out.write(json.dumps(document) + "\n")
        out.flush()

    try:
        started = perf_counter()
        model = opener(bundle, threads)
        greeting = _greeting(model) | {"load_ms": round((perf_counter() - started) * 1e3, 4)}
        watch = Stopwatch(model, task, _prompt_tokens(model))
        reply(greeting)
        for line in lines:
            request = json.loads(line)
            if request.get("stop"):
                reply({"peak_memory_bytes": peak_memory_bytes()})
                return 0
            if "calibrate" in request:
                reply({"calibration": _calibration(request["calibrate"], threads)})
                continue
            if "profile" in request:
                some = [from_json(one) for one in request["profile"]]
                reply({"operators": _operators(model, bundle, task, some)})
                continue
            reply({"samples": [watch.ask(from_json(one)) for one in request["asked"]]})
    except BlipEdgeError as error:
        reply({"error": {"exit_code": error.exit_code, "message": str(error)}})
        return error.exit_code
    return 0


def peak_memory_bytes() -> int | None:
    """The most memory this process has had resident, or None where nobody tells.

    Linux's `ru_maxrss` starts at the parent's size when a process is spawned with vfork, so the
    kernel's own high-water mark of this address space is asked first.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
        if found:
            return int(found[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> int:
    """Serve on stdin and stdout; what libraries print goes to stderr."""
    bundle, threads, task = Path(sys.argv[1]), int(sys.argv[2]), cast(Task, sys.argv[3])
    # Engines print to file descriptor 1 from C++; the protocol gets a descriptor of its own.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return serve(_open, bundle, threads, task, sys.stdin, out)


def _open(bundle: Path, threads: int) -> EdgeModel:
    from blip_edge.runtime.load import load  # here, so that importing the engine counts as loading

    return load(bundle, threads=threads)


def _operators(
    model: EdgeModel, bundle: Path, task: Task, asked: list[Asked]
) -> list[dict[str, Any]] | None:
    from blip_edge.benchmarks.operators import profile  # timing needs none of it

    return profile(model, bundle, task, asked)


def _calibration(target: str, threads: int) -> dict[str, float | None] | None:
    from blip_edge.benchmarks.calibration import calibrate

    return calibrate(target, threads)


def _greeting(model: Any) -> dict[str, Any]:
    engine = getattr(model, "engine", None)
    return {"simulated": bool(getattr(engine, "simulated", False))}


def _prompt_tokens(model: Any) -> int:
    if not isinstance(model, EdgeModel):
        return 0
    return len(model.tokenizer.prompt_ids(model.generation.prompt))


if __name__ == "__main__":
    raise SystemExit(main())
