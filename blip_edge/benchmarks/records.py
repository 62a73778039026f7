"""What `bench` is told and what it writes: the recipe, and schema version 2 of a record.

A record is one bundle on one device. It is plain JSON, the same for every device, so that a phone,
a browser or a script in another language can write it too; what is not known is null or empty:

    schema_version   2
    name, sha256     the bundle: its folder's name, and a digest over its graphs and settings that
                     later notes in its manifest (latency, quality) do not change
    target, precision, bytes        as in the manifest; bytes are those of the graph files
    when             UTC, ISO 8601, the start of the measurement
    version          of blip-edge
    where            the device as it was asked for: local, ssh:pi@board, browser, adb:…
    device           facts of the machine, with measured peaks
    settings         the recipe, threads, decoding lengths and beams, the order of rounds, the task:
                     caption, vqa, retrieval (a text compared with a picture) or nlvr2; what is
                     asked, in turn: image_files, and but for captions texts
    load_ms          one time per fresh process: opening the bundle, the engine's import included
    first_ms         one time per fresh process: the first answer
    samples          raw columns of equal length, one entry per warm answer, in the order of time:
                     total_ms, cpu_ms, preprocess_ms, vision_ms, read_ms (of texts), decode_ms,
                     step_ms, steps, tokens (of a caption, the prompt not counted), image (index
                     into settings.image_files), at_s (seconds since timing began, at the burst's
                     end)
    captions         what it says of settings.image_files, where the device tells
    stats            n, p50_ms, p90_ms, p99_ms, min_ms, trimmed_mean_ms for each column of times
    p50_ms, p90_ms   of total_ms, again, because everybody asks for them; null when not measured
    p50_by_minute_ms                the medians of each minute, when timing took longer than one
    tokens_per_s     caption tokens over decode time
    joules_per_caption              or answer: of the processor and its memory meanwhile, idle power
                     included; null where the system does not tell (`energy`)
    peak_memory_bytes               highest resident memory of the process, interpreter included
    graphs           times of single graphs, where a device runs no whole captions: by name and
                     compute unit load_ms, samples_ms, p50_ms, operators (counts by unit)
    calibration      with `--profile`: the engine's own best matrix products, of 1024 rows and
                     columns: fp32_gflops, int8_gflops, 10^9 operations a second; of memory,
                     device tells
    reached          with `--profile`, of vision, where the manifest tells its multiplications:
                     macs, bound_ms (`roofline`, by calibration and device.peaks), share (of the
                     median time, so that 1 is the roof); of one step of the decoder, prompt
                     included: bytes that it reads, graph and the picture's keys and values,
                     bound_ms and share; over 1 when they stay in the processor's caches
    operators        with `--profile`: those that took most of each graph's time, the slowest
                     first: graph, name, type, calls, ms (of all calls together), share of the
                     graph's time, where (CPU, or as the engine says); a graph's first run is left
                     out
    complete         false: the device went away in mid-run; what it had told is here
    noisy            true: others had more than a tenth of the cores meanwhile; null: not known
    others           that share of the cores, 0 to 1
    throttled        true: late captions, or matrix products afterwards, were over 5 % slower
    drift            median of the last quarter of total_ms over that of the first
    gemm_slowdown    rate of a float32 matrix product before over that afterwards
    compared         with `--compare`: {"with", "ratio", "low", "high"}, the factor of this bundle's
                     median to the first one's, with a 95 % interval
    notes            what a reader has to know, such as why nothing was timed

Version 1 had no where, captions, p50_by_minute_ms, graphs, complete, noisy, others, throttled,
gemm_slowdown, compared and no column at_s; all else is as it was. Fields that came to version 2
later are absent in older records: calibration, joules_per_caption,
operators, reached, settings.task and settings.texts, read_ms.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

from pydantic import ConfigDict

__all__ = ["SCHEMA_VERSION", "BenchRecipe", "Record"]

SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class BenchRecipe:
    """How long to measure. `runs` and `seconds` must both be reached, unless `max_seconds` is."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    runs: int = 64
    """Timed answers per bundle, at least."""
    warmup: int = 10
    """Answers before the timed ones, thrown away."""
    seconds: float = 10.0
    """Seconds of timed answers per bundle, at least."""
    max_seconds: float = 600.0
    """End after so many seconds per bundle, even short of the above; one round is always run."""
    burst: int = 4
    """What one bundle is asked before it is the next one's turn."""
    loads: int = 3
    """Fresh processes per bundle that measure loading and the first answer."""
    images: int = 16
    """Pictures that are asked about in turn, at most."""
    cooldown: float = 0.0
    """Seconds of rest before warming up, so that no earlier work heats what is timed."""

    def __post_init__(self) -> None:
        for name in ("runs", "burst", "loads", "images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("warmup", "seconds", "cooldown"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} may not be negative, got {getattr(self, name)}")
        if self.max_seconds <= 0:
            raise ValueError(f"max_seconds must be above 0, got {self.max_seconds}")


class Record(TypedDict):
    """One bundle measured on one device; the module's docstring explains the fields."""

    schema_version: int
    name: str
    sha256: str
    target: str
    precision: str
    bytes: int
    when: str
    version: str
    where: str
    device: dict[str, Any]
    settings: dict[str, Any]
    load_ms: list[float]
    first_ms: list[float]
    samples: dict[str, list[float]]
    captions: list[str] | None
    stats: dict[str, dict[str, float]]
    p50_ms: float | None
    p90_ms: float | None
    p50_by_minute_ms: list[float]
    tokens_per_s: float | None
    joules_per_caption: float | None
    peak_memory_bytes: int | None
    graphs: dict[str, Any] | None
    calibration: dict[str, float | None] | None
    reached: dict[str, dict[str, float]] | None
    operators: list[dict[str, Any]] | None
    complete: bool
    noisy: bool | None
    others: float | None
    throttled: bool
    drift: float | None
    gemm_slowdown: float | None
    compared: dict[str, Any] | None
    notes: list[str]
