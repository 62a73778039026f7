"""What `bench` is told and what it writes: the recipe, and schema version 1 of a record.

A record is one bundle on one machine. It is plain JSON, so that a phone, a browser or a script in
another language can write the same:

    schema_version   1
    name, sha256     the bundle: its folder's name, and a digest over its graphs and settings that
                     later notes in its manifest (latency, quality) do not change
    target, precision, bytes        as in the manifest; bytes are those of the graph files
    when             UTC, ISO 8601, the start of the measurement
    version          of blip-edge
    device           facts of the machine, with measured peaks
    settings         the recipe, threads, images, decoding lengths and beams, the order of rounds
    load_ms          one time per fresh process: opening the bundle, the engine's import included
    first_ms         one time per fresh process: the first caption
    samples          raw columns of equal length, one entry per warm caption, in the order of time:
                     total_ms, cpu_ms, preprocess_ms, vision_ms, decode_ms, step_ms, steps,
                     tokens (made, the prompt not counted), image (index into
                     settings.image_files)
    stats            n, p50_ms, p90_ms, p99_ms, min_ms, trimmed_mean_ms for each column of times
    p50_ms, p90_ms   of total_ms, again, because everybody asks for them; null when not measured
    tokens_per_s     caption tokens over decode time
    peak_memory_bytes               highest resident memory of the process, interpreter included
    drift            median of the last quarter of total_ms over that of the first
    notes            what a reader has to know, such as why nothing was timed
"""

from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

from pydantic import ConfigDict

__all__ = ["SCHEMA_VERSION", "BenchRecipe", "Record"]

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BenchRecipe:
    """How long to measure. `runs` and `seconds` must both be reached, unless `max_seconds` is."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    runs: int = 64
    """Timed captions per bundle, at least."""
    warmup: int = 10
    """Captions before the timed ones, thrown away."""
    seconds: float = 10.0
    """Seconds of timed captions per bundle, at least."""
    max_seconds: float = 600.0
    """End after so many seconds per bundle, even short of the above; one round is always run."""
    burst: int = 4
    """Captions that one bundle makes before it is the next one's turn."""
    loads: int = 3
    """Fresh processes per bundle that measure loading and the first caption."""
    images: int = 16
    """Pictures that are captioned in turn, at most."""

    def __post_init__(self) -> None:
        for name in ("runs", "burst", "loads", "images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("warmup", "seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} may not be negative, got {getattr(self, name)}")
        if self.max_seconds <= 0:
            raise ValueError(f"max_seconds must be above 0, got {self.max_seconds}")


class Record(TypedDict):
    """One bundle measured on one machine; the module's docstring explains the fields."""

    schema_version: int
    name: str
    sha256: str
    target: str
    precision: str
    bytes: int
    when: str
    version: str
    device: dict[str, Any]
    settings: dict[str, Any]
    load_ms: list[float]
    first_ms: list[float]
    samples: dict[str, list[float]]
    stats: dict[str, dict[str, float]]
    p50_ms: float | None
    p90_ms: float | None
    tokens_per_s: float | None
    peak_memory_bytes: int | None
    drift: float | None
    notes: list[str]
