"""Which operators take the time: the engine's own profile of whole answers.

Profiling costs time itself, so it has a process of its own after all timing. The model is the one
that users run; only its graphs are opened once more, with the runtime's profiler on. Of each graph
the first run is left out, in which memory is found and weights are laid out.

ONNX Runtime writes a trace (https://onnxruntime.ai/docs/performance/tune-performance), OpenVINO
tells after each inference (PERF_COUNT). The other engines do not tell.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blip_edge.errors import import_extra
from blip_edge.runtime.asked import Asked, ask
from blip_edge.runtime.engine import Task
from blip_edge.runtime.manifest import Graph, Manifest, read_manifest
from blip_edge.runtime.onnx import OnnxEngine
from blip_edge.runtime.openvino import OpenVinoEngine, compiled

__all__ = ["TOP", "Call", "profile", "summed"]

TOP = 10
"""Operators of a graph that are told of."""

_KERNEL, _PROVIDER = "_kernel_time", "ExecutionProvider"


@dataclass(frozen=True)
class Call:
    """One operator, run once."""

    name: str
    type: str
    ms: float
    where: str
    """CPU, GPU, NPU or whatever the engine calls it."""


def profile(
    model: Any, bundle: Path, task: Task, asked: Sequence[Asked]
) -> list[dict[str, Any]] | None:
    """Ask under the engine's profiler; what `summed` makes of it, graph by graph.

    The model's graphs are others afterwards: it is not to be timed any more.

    Args:
        model: open, and not asked anything yet: engines keep what they ran with.
        bundle: that it was opened from.
        task: what it is asked to do.
        asked: one thing after the other.

    Returns:
        None where the engine does not tell.
    """
    engine = getattr(model, "engine", None)
    if not isinstance(engine, (OnnxEngine, OpenVinoEngine)):
        return None
    manifest = read_manifest(bundle, check=False)
    with TemporaryDirectory() as scratch:
        told = {
            name: _WATCHES[graph.engine or manifest.target](
                engine.runner(name), graph, manifest, Path(scratch) / name
            )
            for name, graph in manifest.graphs.items()
        }
        # The first one twice: a graph that runs once an answer would else have no second run.
        for one in (*asked[:1], *asked):
            ask(model, task, one)
        return [row for name, calls in told.items() for row in summed(name, calls())]


def summed(graph: str, calls: Iterable[Call], top: int = TOP) -> list[dict[str, Any]]:
    """The operators of a graph that took most of its time, the slowest first, as a record has them.

    Args:
        graph: its name.
        calls: of all operators.
        top: how many of them.
    """
    total, found = 0.0, dict[tuple[str, str, str], list[float]]()
    for call in calls:
        found.setdefault((call.name, call.type, call.where), []).append(call.ms)
        total += call.ms
    slowest = sorted(found.items(), key=lambda item: (-sum(item[1]), item[0]))[:top]
    return [
        {
            "graph": graph,
            "name": name,
            "type": kind,
            "calls": len(times),
            "ms": round(sum(times), 4),
            "share": round(sum(times) / total, 4) if total else 0.0,
            "where": where,
        }
        for (name, kind, where), times in slowest
    ]


_Calls = Callable[[], list[Call]]
"""What a graph has called since it is watched, but for its first run."""


def _onnx(runner: Any, graph: Graph, manifest: Manifest, trace: Path) -> _Calls:
    runtime = import_extra("onnxruntime", "onnx")
    options = runner.session.get_session_options()
    options.enable_profiling = True
    options.profile_file_prefix = str(trace)
    runner.session = runtime.InferenceSession(
        str(graph.path), options, providers=runner.session.get_providers()
    )

    def calls() -> list[Call]:
        written = Path(runner.session.end_profiling())
        return _traced(json.loads(written.read_text(encoding="utf-8")))

    return calls


def _traced(events: Sequence[dict[str, Any]]) -> list[Call]:
    """Calls in ONNX Runtime's trace, but for those of the first run; its times are µs."""
    runs = [event for event in events if event["name"] == "model_run"]
    first = min((event["ts"] + event["dur"] for event in runs), default=0)
    return [
        Call(
            name=event["name"].removesuffix(_KERNEL),
            type=event["args"]["op_name"],
            ms=event["dur"] / 1e3,
            where=event["args"]["provider"].removesuffix(_PROVIDER),
        )
        for event in events
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL) and event["ts"] >= first
    ]


def _openvino(runner: Any, graph: Graph, manifest: Manifest, trace: Path) -> _Calls:
    core, runs = import_extra("openvino", "openvino").Core(), list[list[Call]]()
    kept = ("PERFORMANCE_HINT", "INFERENCE_NUM_THREADS")
    settings = {key: runner.compiled.get_property(key) for key in kept}
    again = compiled(core, graph, settings | {"PERF_COUNT": True}, beside=manifest.precision)
    runner.compiled = _Watched(again, runs.append)
    runner.request = runner.compiled.create_infer_request()
    return lambda: [call for run in runs[1:] for call in run]


class _Watched:
    """A compiled model whose requests tell of every inference."""

    def __init__(self, model: Any, tell: Callable[[list[Call]], None]) -> None:
        self._model, self._tell = model, tell

    def create_infer_request(self) -> Any:
        return _WatchedRequest(self._model.create_infer_request(), self._tell)


class _WatchedRequest:
    def __init__(self, request: Any, tell: Callable[[list[Call]], None]) -> None:
        self._request, self._tell = request, tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def infer(self) -> None:
        self._request.infer()
        self._tell(
            [
                Call(info.node_name, info.node_type, info.real_time.total_seconds() * 1e3, "CPU")
                for info in self._request.get_profiling_info()
                if info.status.name == "EXECUTED"
            ]
        )


_WATCHES: dict[str, Callable[[Any, Graph, Manifest, Path], _Calls]] = {
    "onnx": _onnx,
    "openvino": _openvino,
}
"""How an open graph is watched, by what runs it."""
