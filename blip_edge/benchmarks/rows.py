"""From raw times to a record, and the record's place in the bundle's own manifest."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from blip_edge import __version__
from blip_edge.artifact import read_json, write_json
from blip_edge.benchmarks.job import Job, Measured, Sample, Timed
from blip_edge.benchmarks.load_guard import BUSY
from blip_edge.benchmarks.records import SCHEMA_VERSION, Record
from blip_edge.benchmarks.roofline import least_ms
from blip_edge.benchmarks.stats import drift, summarise
from blip_edge.benchmarks.stopwatch import COLUMNS, TIMES
from blip_edge.errors import ArtifactError
from blip_edge.generation import Generation
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.engine import Task
from blip_edge.runtime.manifest import graph_bytes, read_manifest
from blip_edge.runtime.sums import renew_sum

__all__ = ["SLOWER", "BundleFacts", "bundle_facts", "make_record", "note_latency"]

SLOWER = 1.05
"""Beyond it a machine is said to have grown slower."""

_MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """What a record says of its bundle."""

    name: str
    sha256: str
    target: str
    engines: tuple[str, ...]
    """What runs its graphs, the target first."""
    tasks: tuple[Task, ...]
    precision: str
    bytes: int
    generation: Generation
    image_size: int
    work: dict[str, tuple[int, int]]
    """By stage, where the manifest tells: multiplications, and bytes of what is read for them."""
    step_bytes: int | None
    """What a step of the decoder reads: its graph, and the keys and values of the picture."""


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
        size = graph_bytes(document)
        work = {
            name: (int(graph["macs"]), int(graph["bytes"]))
            for name, graph in document["graphs"].items()
            if graph.get("macs")
        }
        step_bytes = _step_bytes(document["graphs"].get("decoder"))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder}: manifest.json tells no size of a graph: {error}") from None
    return BundleFacts(
        name=Path(folder).resolve().name,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        target=manifest.target,
        engines=manifest.engines,
        tasks=manifest.tasks,
        precision=manifest.precision,
        bytes=size,
        generation=manifest.generation,
        image_size=manifest.preprocess.size,
        work=work,
        step_bytes=step_bytes,
    )


def _step_bytes(decoder: Mapping[str, Any] | None) -> int | None:
    if decoder is None:
        return None
    cross = [port for name, port in decoder["inputs"].items() if name.startswith("cross_")]
    if any(isinstance(side, str) for port in cross for side in port["shape"]):
        return None  # keys of a question, as long as it is
    seen: int = sum(math.prod(one["shape"]) * np.dtype(one["dtype"]).itemsize for one in cross)
    return int(decoder["bytes"]) + seen


def make_record(facts: BundleFacts, measured: Measured, number: int, job: Job) -> Record:
    """Put everything that is known of the `number`-th bundle into the current schema."""
    timed = measured.timed[number]
    columns = _columns(timed.samples)
    stats = {name: summarise(columns[name]).to_json() for name in TIMES if columns.get(name)}
    total = stats.get("total_ms")
    grown = None if total is None else round(drift(columns["total_ms"]), 4)
    record = Record(
        schema_version=SCHEMA_VERSION,
        name=facts.name,
        sha256=facts.sha256,
        target=facts.target,
        precision=facts.precision,
        bytes=facts.bytes,
        when=timed.when,
        version=__version__,
        where=measured.where,
        device=measured.device,
        settings=_settings(facts, measured, job),
        load_ms=timed.load_ms,
        first_ms=timed.first_ms,
        samples=columns,
        captions=timed.captions,
        stats=stats,
        p50_ms=None if total is None else total["p50_ms"],
        p90_ms=None if total is None else total["p90_ms"],
        p50_by_minute_ms=_by_minute(columns),
        tokens_per_s=_tokens_per_s(columns),
        joules_per_caption=_joules_per_caption(timed),
        peak_memory_bytes=timed.peak_memory_bytes,
        graphs=timed.graphs,
        calibration=timed.calibration,
        reached=_reached(facts, measured, timed, columns, stats),
        operators=timed.operators,
        complete=measured.complete,
        noisy=None if measured.others is None else measured.others > BUSY,
        others=None if measured.others is None else round(measured.others, 4),
        throttled=any(rate is not None and rate > SLOWER for rate in _slowdowns(grown, measured)),
        drift=grown,
        gemm_slowdown=measured.gemm_slowdown,
        compared=None,
        notes=[*measured.notes, *timed.notes],
    )
    if total is not None:
        record["notes"] += _warnings(record)
    if job.profile and timed.operators is None and measured.complete:
        engine = f"{facts.target} on {measured.where}"
        record["notes"].append(f"{engine} does not tell which operators take the time")
    return record


def _reached(
    facts: BundleFacts,
    measured: Measured,
    timed: Timed,
    columns: Mapping[str, Sequence[float]],
    stats: Mapping[str, Mapping[str, float]],
) -> dict[str, dict[str, float]] | None:
    """How near each stage comes to the roof, of those whose work and time are known.

    A step multiplies each weight with a row or a few, so its roof is that of what it reads.
    """
    peaks = timed.calibration or {}
    gflops = peaks.get("int8_gflops" if facts.precision == "int8" else "fp32_gflops")
    copy = (measured.device.get("peaks") or {}).get("copy_gb_per_s")
    if not gflops or not copy:
        return None
    found: dict[str, dict[str, float]] = {}
    for stage, (macs, moved) in facts.work.items():
        if time := stats.get(f"{stage}_ms"):
            bound = least_ms(macs, moved, gflops * 1e9, copy * 1e9)
            share = round(bound / time["p50_ms"], 4)
            found[stage] = {"macs": macs, "bound_ms": round(bound, 4), "share": share}
    if facts.step_bytes and columns.get("steps"):
        pairs = zip(columns["step_ms"], columns["steps"], strict=True)
        time_of_one = median(took / steps for took, steps in pairs)
        bound = least_ms(0, facts.step_bytes, gflops * 1e9, copy * 1e9)
        share = round(bound / time_of_one, 4)
        found["step"] = {"bytes": facts.step_bytes, "bound_ms": round(bound, 4), "share": share}
    return found or None


def note_latency(folder: Path, record: Record) -> None:
    """Append `record`, without its raw samples, to the manifest's `latency`, in one step."""
    path = Path(folder) / _MANIFEST
    manifest = read_json(path)
    row = {key: value for key, value in record.items() if key != "samples"}
    write_json(path, manifest | {"latency": [*manifest.get("latency", []), row]})
    renew_sum(Path(folder), _MANIFEST)


def _columns(samples: Sequence[Sample]) -> dict[str, list[float]]:
    names = (*COLUMNS, "image", "at_s")
    known = [name for name in names if samples and all(name in sample for sample in samples)]
    return {name: [sample[name] for sample in samples] for name in known}


def _settings(facts: BundleFacts, measured: Measured, job: Job) -> dict[str, Any]:
    lengths = ("prompt", "num_beams", "min_length", "max_length")
    return {
        "threads": measured.threads,
        "image_size": facts.image_size,
        "task": job.task,
        "image_files": [_names(asked) for asked in job.asked],
        **({"texts": [asked.texts[0] for asked in job.asked]} if job.asked[0].texts else {}),
        "decode": {name: getattr(facts.generation, name) for name in lengths} | measured.decode,
        "recipe": asdict(job.recipe),
        "interleaved_with": [Path(folder).resolve().name for folder in job.bundles],
        "page_cache": "warm",  # emptying it takes root; a first start after boot reads the disk too
    }


def _names(asked: Asked) -> str:
    return " + ".join(Path(str(image)).name for image in asked.images)


def _by_minute(columns: dict[str, list[float]]) -> list[float]:
    """Medians of total_ms by minute since timing began; nothing when it took less than one."""
    at = columns.get("at_s", [])
    if not at or at[-1] <= 60:
        return []
    pairs = zip(at, columns["total_ms"], strict=True)
    minutes = groupby(pairs, key=lambda pair: int(pair[0] // 60))
    return [summarise([time for _, time in group]).to_json()["p50_ms"] for _, group in minutes]


def _tokens_per_s(columns: dict[str, list[float]]) -> float | None:
    tokens, milliseconds = columns.get("tokens"), sum(columns.get("decode_ms", ()))
    return round(sum(tokens) / milliseconds * 1e3, 2) if tokens and milliseconds else None


def _joules_per_caption(timed: Timed) -> float | None:
    if timed.joules is None or not timed.samples:
        return None
    return round(timed.joules / len(timed.samples), 6)


def _slowdowns(grown: float | None, measured: Measured) -> tuple[float | None, ...]:
    return grown, measured.gemm_slowdown


def _warnings(record: Record) -> list[str]:
    found = []
    if not record["complete"]:
        found.append("incomplete: the device went away before all was measured")
    if (grown := record["drift"]) is not None and grown > SLOWER:
        found.append(f"the machine grew slower by {grown - 1:.0%} while this was timed")
    if (slower := record["gemm_slowdown"]) is not None and slower > SLOWER:
        found.append(f"matrix products were {slower - 1:.0%} slower after the timing than before")
    if record["noisy"]:
        found.append(f"noisy: others had {record['others']:.0%} of the cores meanwhile")
    return found
