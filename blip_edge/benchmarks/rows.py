"""From raw times to a record, and the record's place in the bundle's own manifest."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blip_edge import __version__
from blip_edge.artifact import read_json, write_json
from blip_edge.benchmarks.machine import Machine
from blip_edge.benchmarks.records import SCHEMA_VERSION, BenchRecipe, Record
from blip_edge.benchmarks.stats import drift, summarise
from blip_edge.benchmarks.stopwatch import COLUMNS, TIMES
from blip_edge.benchmarks.workers import Sample
from blip_edge.errors import ArtifactError
from blip_edge.generation import Generation
from blip_edge.runtime.manifest import read_manifest
from blip_edge.runtime.sums import renew_sum

__all__ = ["BundleFacts", "Timed", "bundle_facts", "make_record", "note_latency"]

_MANIFEST = "manifest.json"
# Other processes that want more than this share of the cores make a row worth a note.
_BUSY = 0.1
_SLOWER = 1.05


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """What a record says of its bundle."""

    name: str
    sha256: str
    target: str
    precision: str
    bytes: int
    generation: Generation
    image_size: int


@dataclass
class Timed:
    """What was measured of one bundle."""

    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    load_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    peak_memory_bytes: int | None = None
    notes: list[str] = field(default_factory=list)


def bundle_facts(folder: Path) -> BundleFacts:
    """Read a bundle's manifest; its files are checked by the process that opens them.

    Raises:
        ArtifactError: it is missing, or has other fields.
    """
    manifest = read_manifest(Path(folder), check=False)
    document = manifest.document
    # `latency` and `quality` are noted after the export; the bundle is the same with them.
    identity = {key: document[key] for key in document if key not in ("latency", "quality")}
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    try:
        size = sum(int(graph["bytes"]) for graph in document["graphs"].values())
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder}: manifest.json tells no bytes of a graph: {error}") from None
    return BundleFacts(
        name=Path(folder).resolve().name,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        target=manifest.target,
        precision=manifest.precision,
        bytes=size,
        generation=manifest.generation,
        image_size=manifest.preprocess.size,
    )


def make_record(
    facts: BundleFacts,
    timed: Timed,
    recipe: BenchRecipe,
    *,
    device: Machine,
    threads: int,
    images: Sequence[Path],
    order: Sequence[Path],
) -> Record:
    """Put everything that is known of one bundle into schema version 1."""
    columns = _columns(timed.samples)
    stats = {name: summarise(columns[name]).to_json() for name in TIMES if columns.get(name)}
    total = stats.get("total_ms")
    return Record(
        schema_version=SCHEMA_VERSION,
        name=facts.name,
        sha256=facts.sha256,
        target=facts.target,
        precision=facts.precision,
        bytes=facts.bytes,
        when=timed.when,
        version=__version__,
        device=device.to_json(),
        settings=_settings(facts, recipe, threads, images, order),
        load_ms=timed.load_ms,
        first_ms=timed.first_ms,
        samples=columns,
        stats=stats,
        p50_ms=None if total is None else total["p50_ms"],
        p90_ms=None if total is None else total["p90_ms"],
        tokens_per_s=_tokens_per_s(columns),
        peak_memory_bytes=timed.peak_memory_bytes,
        drift=None if total is None else round(drift(columns["total_ms"]), 4),
        notes=[*timed.notes, *(_warnings(columns["total_ms"], device) if total else ())],
    )


def note_latency(folder: Path, record: Record) -> None:
    """Append `record`, without its raw samples, to the manifest's `latency`, in one step."""
    path = Path(folder) / _MANIFEST
    manifest = read_json(path)
    row = {key: value for key, value in record.items() if key != "samples"}
    write_json(path, manifest | {"latency": [*manifest.get("latency", []), row]})
    renew_sum(Path(folder), _MANIFEST)


def _columns(samples: Sequence[Sample]) -> dict[str, list[float]]:
    names = (*COLUMNS, "image")
    known = [name for name in names if samples and all(name in sample for sample in samples)]
    return {name: [sample[name] for sample in samples] for name in known}


def _settings(
    facts: BundleFacts,
    recipe: BenchRecipe,
    threads: int,
    images: Sequence[Path],
    order: Sequence[Path],
) -> dict[str, Any]:
    lengths = ("prompt", "num_beams", "min_length", "max_length")
    return {
        "threads": threads,
        "image_size": facts.image_size,
        "image_files": [image.name for image in images],
        "decode": {name: getattr(facts.generation, name) for name in lengths},
        "recipe": asdict(recipe),
        "interleaved_with": [Path(folder).resolve().name for folder in order],
        "page_cache": "warm",  # emptying it takes root; a first start after boot reads the disk too
    }


def _tokens_per_s(columns: dict[str, list[float]]) -> float | None:
    milliseconds = sum(columns.get("decode_ms", ()))
    return round(sum(columns["tokens"]) / milliseconds * 1e3, 2) if milliseconds else None


def _warnings(total_ms: Sequence[float], device: Machine) -> list[str]:
    found = []
    if (grown := drift(total_ms)) > _SLOWER:
        found.append(f"the machine grew slower by {grown - 1:.0%} while this was timed")
    if device.load_average is not None and device.load_average / device.cores > _BUSY:
        found.append(f"the load average was {device.load_average} on {device.cores} cores before")
    return found
