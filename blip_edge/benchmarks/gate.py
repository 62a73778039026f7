"""Whether bundles have grown slower than in a former record: what keeps a regression from landing.

gate(records, Path("benchmarks/results/latency.json"), slower=1.05)
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blip_edge.artifact import read_json
from blip_edge.benchmarks.records import SCHEMA_VERSION, Record
from blip_edge.benchmarks.wording import timed
from blip_edge.errors import ArtifactError, ToleranceError, UsageError

__all__ = ["former", "gate", "key", "read_records", "require_comparable", "timed_otherwise"]

# What makes two rows rows of one thing: a re-exported bundle has another digest and the same name.
_KEY = ("name", "target", "precision", "where")
# Which settings have to be equal, for a factor to say anything of the bundle.
_EQUAL = ("threads", "image_size", "decode")
_NUMBERS = ("p50_ms", "p90_ms", "bytes", "peak_memory_bytes", "tokens_per_s", "joules_per_caption")
_MAPPINGS = ("device", "settings", "samples", "stats")


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records that `bench -o` wrote, of this schema's version or of the one before.

    Raises:
        ArtifactError: the file is missing, or holds something else.
    """
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ArtifactError(f"{path} holds no records; give a file that `bench -o` wrote")
    for row in rows:
        version = row.get("schema_version")
        if version not in range(1, SCHEMA_VERSION + 1):
            raise ArtifactError(
                f"{path} has schema_version {version!r}, this version reads 1 to {SCHEMA_VERSION}"
            )
        for names, kind in ((_NUMBERS, int | float), (_MAPPINGS, dict)):
            for name in names:
                if not isinstance(value := row.get(name), kind | None):
                    raise ArtifactError(f"{path} is damaged: {name} of a record is {value!r}")
    return [
        {"where": "local", **row, **{name: row.get(name) or {} for name in _MAPPINGS}}
        for row in rows
    ]


def key(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes two records records of one bundle on one device, asked the same kind of thing."""
    return (*(str(record.get(name)) for name in _KEY), timed(record))


def former(
    record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The last of `rows` with a time for the same bundle on the same device.

    One that was timed alike goes before later ones that were not.
    """
    same = [row for row in rows if key(row) == key(record) and row.get("p50_ms")]
    alike = [row for row in same if not timed_otherwise(record, row)]
    return next(reversed(alike or same), None)


def timed_otherwise(record: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    """The settings without which a factor says nothing of the bundle, and which differ."""
    was, now = row.get("settings") or {}, record.get("settings") or {}
    return [name for name in _EQUAL if name in was and was[name] != now.get(name)]


def require_comparable(path: Path, bundles: Sequence[Path], where: str, *, slower: float) -> None:
    """See before anything is measured that `gate` will have something to compare with.

    Raises:
        ArtifactError: `path` holds no records.
        UsageError: it has no time of one of the bundles on the device `where`, or `slower` is not
            above 0.
    """
    if not 0 < slower < math.inf:
        raise UsageError(f"--slower must be above 0, got {slower}")
    known = {(row.get("name"), row["where"]) for row in read_records(path) if row.get("p50_ms")}
    for bundle in bundles:
        name = Path(bundle).resolve().name
        if (name, where) not in known:
            raise UsageError(f"{path} has no time of {name} on {where}")


def gate(records: Sequence[Record], path: Path, *, slower: float) -> list[str]:
    """Compare medians with those in `path`; what a reader should know of the comparison.

    Args:
        records: what was measured now.
        path: records of before.
        slower: the largest factor that passes, above 0.

    Raises:
        ArtifactError: `path` holds no records.
        UsageError: it has no time of one of the bundles on this device for the same task.
        ToleranceError: a bundle is slower than that, or was not measured to the end, or was timed
            with other threads, pictures of another size or another search.
    """
    rows = read_records(path)
    worse, notes = [], []
    for record in records:
        before = former(record, rows)
        if before is None:
            raise UsageError(
                f"{path} has no time of {timed(record)} of {record['name']} on {record['where']}"
            )
        if not record["complete"] or record["p50_ms"] is None:
            worse.append(f"{record['name']} was not measured to the end")
            continue
        was, now = before["settings"], record["settings"]
        if other := timed_otherwise(record, before):
            told = ", ".join(f"{name} {was[name]}, now {now.get(name)}" for name in other)
            worse.append(f"{record['name']} was timed otherwise in {path}: {told}")
            continue
        if was.get("image_files") != now.get("image_files"):
            notes.append(f"{record['name']} was asked about other pictures before")
        if (cpu := before["device"].get("cpu")) != record["device"].get("cpu"):
            notes.append(f"{record['name']} was timed on another processor before: {cpu}")
        factor = record["p50_ms"] / before["p50_ms"]
        if factor > slower:
            loud = ", and others kept the machine busy" if record["noisy"] else ""
            worse.append(
                f"{record['name']} takes {record['p50_ms']:.1f} ms, {factor:.2f} times the "
                f"{before['p50_ms']:.1f} ms of {path}{loud}"
            )
    if worse:
        raise ToleranceError("; ".join(worse))
    return notes
