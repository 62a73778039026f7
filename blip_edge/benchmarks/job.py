"""What a device is asked to time, and what it tells while it does.

A device of any kind (this machine, another one, a browser) tells events: JSON objects, in the order
of time. Whatever was told is kept, so that one that goes away in mid-run leaves what it measured.

    {"device": {…}, "threads": 2}                  facts of the machine, first of all
    {"bundle": 0, "load_ms": …, "first_ms": …}     a fresh process opened it and was asked once
    {"bundle": 0, "samples": [{"total_ms": …}]}    a burst of warm answers, as in a record
    {"bundle": 0, "captions": ["a red square"]}    what it says of the pictures, in their order
    {"bundle": 0, "graphs": {…}}                   times of single graphs, as in a record
    {"bundle": 0, "calibration": {…}}              the engine's peaks, as in a record
    {"bundle": 0, "operators": [{…}]}              those that took the time, as in a record
    {"bundle": 0, "joules": …}                    of all its warm answers, where the system tells
    {"bundle": 0, "peak_memory_bytes": …}
    {"bundle": 0, "note": "…"}, {"note": "…"}      what a reader has to know, of one or of all
    {"others": 0.03, "gemm_slowdown": 1.01}        load and heat, when all is timed
    {"error": {"exit_code": 3, "message": "…"}}    a failure that a user can cause; nothing follows
    {"done": true}                                 all was measured
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from blip_edge.benchmarks.records import BenchRecipe
from blip_edge.errors import (
    ArtifactError,
    BlipEdgeError,
    MissingExtraError,
    ToleranceError,
    UsageError,
)
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.engine import Task

__all__ = [
    "Event",
    "Job",
    "Measured",
    "Sample",
    "Tell",
    "Timed",
    "as_json",
    "failure",
    "from_json",
]

Sample = dict[str, float]
Event = Mapping[str, Any]
Tell = Callable[[Event], None]

_PEAKS = ("fp32_gflops", "int8_gflops")
_ERRORS = {
    error.exit_code: error
    for error in (UsageError, ArtifactError, MissingExtraError, ToleranceError)
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """Bundles to time side by side."""

    bundles: tuple[Path, ...]
    asked: tuple[Asked, ...]
    """What they are asked in turn, at least one; its pictures are files."""
    recipe: BenchRecipe
    task: Task = "caption"
    threads: int | None = None
    """Of the engine; None: the cores that it may use there."""
    profile: bool = False
    """Whether to tell which operators take the time, and how near to its peaks the engine comes."""

    def counted(self) -> str:
        """`1 bundle`, `2 bundles`: for what is said of them."""
        return f"{len(self.bundles)} bundle{'s' * (len(self.bundles) != 1)}"

    def to_json(self) -> dict[str, Any]:
        """Plain values; paths as they are."""
        return {
            "bundles": [str(bundle) for bundle in self.bundles],
            "task": self.task,
            "asked": [as_json(one) for one in self.asked],
            "recipe": asdict(self.recipe),
            "threads": self.threads,
            "profile": self.profile,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], folder: Path) -> "Job":
        """Read `to_json`'s words; relative paths start from `folder`."""
        return cls(
            bundles=tuple(folder / name for name in document["bundles"]),
            asked=tuple(from_json(one, folder) for one in document["asked"]),
            task=document["task"],
            recipe=BenchRecipe(**document["recipe"]),
            threads=document["threads"],
            profile=bool(document.get("profile")),
        )


def as_json(asked: Asked) -> dict[str, list[str]]:
    """Plain values; paths as they are."""
    return {"images": [str(image) for image in asked.images], "texts": list(asked.texts)}


def from_json(document: Mapping[str, Any], folder: Path = Path()) -> Asked:
    """Read `as_json`'s words; relative paths start from `folder`."""
    images = tuple(folder / name for name in document["images"])
    return Asked(images, tuple(document["texts"]))


@dataclass
class Timed:
    """What was measured of one bundle."""

    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    load_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    captions: list[str] | None = None
    graphs: dict[str, Any] | None = None
    calibration: dict[str, float | None] | None = None
    operators: list[dict[str, Any]] | None = None
    joules: float | None = None
    peak_memory_bytes: int | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Measured:
    """What a device has told so far of a job with `bundles` bundles.

    `where` is the device as it was asked for; `decode` holds the settings of the search that were
    others than the bundle's own.
    """

    bundles: int
    where: str = "local"
    device: dict[str, Any] = field(default_factory=dict)
    threads: int | None = None
    timed: list[Timed] = field(default_factory=list)
    others: float | None = None
    gemm_slowdown: float | None = None
    complete: bool = False
    decode: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.timed = self.timed or [Timed() for _ in range(self.bundles)]

    @property
    def answers(self) -> int:
        """Warm answers that were timed so far, of all bundles."""
        return sum(len(timed.samples) for timed in self.timed)

    def hear(self, event: Event) -> None:
        """Keep what an event says.

        Raises:
            BlipEdgeError: the device's own failure, with the exit code that it has there.
            ArtifactError: the event is none of those above.
        """
        if "error" in event:
            raise failure(event["error"])
        try:
            if "bundle" in event:
                _keep(self.timed[int(event["bundle"])], event)
            elif "note" in event:
                self.notes.append(str(event["note"]))
            elif "done" in event:
                self.complete = True
            else:
                self._keep_facts(event)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{self.where} told what is no event: {error!r}") from None

    def _keep_facts(self, event: Event) -> None:
        if "device" in event:
            self.device, threads = dict(event["device"]), event.get("threads")
            self.threads = None if threads is None else int(threads)
        elif "others" in event:
            self.others = _known(event["others"])
            self.gemm_slowdown = _known(event.get("gemm_slowdown"))
        else:
            raise KeyError(*sorted(event))


def _keep(timed: Timed, event: Event) -> None:
    if "samples" in event:
        timed.samples += [
            {str(name): _number(value) for name, value in sample.items()}
            for sample in event["samples"]
        ]
    elif "load_ms" in event:
        timed.load_ms.append(_number(event["load_ms"]))
        timed.first_ms.append(_number(event["first_ms"]))
    elif "captions" in event:
        timed.captions = [str(text) for text in event["captions"]]
    elif "graphs" in event:
        timed.graphs = dict(event["graphs"])
    elif "calibration" in event:
        timed.calibration = {name: _known(event["calibration"][name]) for name in _PEAKS}
    elif "operators" in event:
        timed.operators = [_operator(row) for row in event["operators"]]
    elif "joules" in event:
        timed.joules = _known(event["joules"])
    elif "peak_memory_bytes" in event:
        timed.peak_memory_bytes = event["peak_memory_bytes"]
    elif "note" in event:
        timed.notes.append(str(event["note"]))
    else:
        raise KeyError(*sorted(event))


def _operator(row: Mapping[str, Any]) -> dict[str, Any]:
    words = {name: str(row[name]) for name in ("graph", "name", "type")}
    numbers = {name: _number(row[name]) for name in ("calls", "ms", "share")}
    return {**words, **numbers, "where": str(row["where"])}


def _known(value: Any) -> float | None:
    return None if value is None else _number(value)


def _number(value: Any) -> float:
    """A finite number, counts as the integers that they are."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return value


def failure(cause: Any) -> BlipEdgeError:
    """The error that another process, here or on a device, has answered with."""
    try:
        kind = _ERRORS.get(cause["exit_code"], BlipEdgeError)
        return kind(str(cause["message"]))
    except (KeyError, TypeError):
        return BlipEdgeError(f"the device failed, and did not say how: {cause!r}")
