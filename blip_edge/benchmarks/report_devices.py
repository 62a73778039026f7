"""The report's sections on speed by device: a row per bundle and device, its stages, and what has
become worse than in a former record.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blip_edge.artifact import read_json
from blip_edge.benchmarks import wording
from blip_edge.benchmarks.gate import former, read_records, timed_otherwise
from blip_edge.benchmarks.rows import SLOWER
from blip_edge.errors import ArtifactError

__all__ = ["device_rows", "fastest", "former_run", "records_of", "regressions"]

Rows = Sequence[Mapping[str, Any]]

_RECORDS = "bench.json"
_SUMMARY = "summary.json"
_STAGES = {
    "preprocess": "preprocess, from the file to pixels",
    "vision": "vision",
    "read": "read, of texts",
    "decode": "decode, from there to words",
}
_DOES = {
    "a caption": "captions a picture",
    "an answer": "answers a question",
    "a match": "compares a picture with a text",
    "a judgement": "judges a sentence about two pictures",
}
_SPREAD = 20
"""The longest bar over the shortest, up to which both can be seen on one scale."""
# column heading, how it is found and written, what it means
_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str], str], ...] = (
    ("Of", wording.timed, "what is timed, with a picture from its file on"),
    ("Beams", lambda row: _beams(row), "of the search; 1 is greedy, which a browser always is"),
    ("p50 ms", lambda row: wording.number(row.get("p50_ms")), "median, warm"),
    ("p90 ms", lambda row: wording.number(row.get("p90_ms")), "nine of ten are faster"),
    ("First ms", lambda row: wording.number(_least(row, "first_ms")), "of a fresh process"),
    ("Load ms", lambda row: wording.number(_least(row, "load_ms")), "opening the bundle"),
    ("Tokens/s", lambda row: wording.number(row.get("tokens_per_s")), "while decoding"),
    ("Peak MB", lambda row: wording.megabytes(row.get("peak_memory_bytes")), "resident memory"),
    ("MB", lambda row: wording.megabytes(row.get("bytes")), "graphs on disk"),
    ("J", lambda row: wording.number(row.get("joules_per_caption")), "energy of one"),
    (
        "Of roof",
        lambda row: _of_roof(row),
        "how near the image tower and a step come to the device's own peaks (bench --profile)",
    ),
)
# what is compared, the key, how it is written, which factor of now to before is worse
_COMPARED: tuple[tuple[str, str, Callable[[Any], str], Callable[[float], bool]], ...] = (
    ("p50 ms", "p50_ms", wording.number, lambda factor: factor > SLOWER),
    ("MB", "bytes", wording.megabytes, lambda factor: factor > 1.01),
    ("CIDEr", "CIDEr", wording.score, lambda factor: factor < 0.99),
)


def records_of(run: Path) -> list[dict[str, Any]]:
    """The records of a run folder, none if it has none, or those in a records file.

    Raises:
        ArtifactError: the file is missing, or holds something else.
    """
    if not run.is_dir():
        return read_records(run)
    return read_records(run / _RECORDS) if (run / _RECORDS).is_file() else []


def former_run(against: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Records and summary (empty if there is none) of what a run is held against.

    Raises:
        ArtifactError: it is neither a run folder nor a records file.
    """
    against = Path(against)
    if not against.exists():
        raise ArtifactError(f"{against} is missing")
    summary = read_json(against / _SUMMARY) if (against / _SUMMARY).is_file() else {}
    records = records_of(against)
    if not records and not summary:
        raise ArtifactError(f"{against} is neither a run nor a file that `bench -o` wrote")
    if not isinstance(summary, dict):
        raise ArtifactError(f"{against / _SUMMARY} is not the summary of a run")
    return records, summary


def device_rows(records: Rows) -> dict[str, Any]:
    """What the template shows of the records: a table, bars of stages, and single graphs.

    A column that nobody fills is left out. Bars are as long as their times are, unless some would
    be too short to see: then each is a whole, and shows shares alone.
    """
    nothing_new = (wording.number(None), wording.timed({}))
    columns = [one for one in _COLUMNS if any(one[1](row) not in nothing_new for row in records)]
    totals = [total for row in records if (total := sum(_stages(row).values()))]
    alike = bool(totals) and max(totals) <= _SPREAD * min(totals)
    return {
        "columns": [{"name": name, "hint": hint} for name, _, hint in columns],
        "rows": [
            {
                "bundle": _bundle(row),
                "device": _device(row),
                "cells": [write(row) for _, write, _ in columns],
                "marks": _marks(row),
            }
            for row in records
        ],
        "bars": [_bar(row, max(totals) if alike else None) for row in records if _stages(row)],
        "stages": [
            {"stage": stage, "words": words}
            for stage, words in _STAGES.items()
            if any(stage in _stages(row) for row in records)
        ],
        "alike": alike,
        "graphs": [line for row in records for line in _graphs(row)],
        "notes": [f"{_bundle(row)}: {note}" for row in records for note in row.get("notes", [])],
    }


def fastest(records: Rows) -> str:
    """The quickest of records that belong to no run, in a sentence."""
    timed = [record for record in records if record.get("p50_ms")]
    if not timed:
        return "Nothing was timed as a whole."
    best = min(timed, key=lambda record: float(record["p50_ms"]))
    time = wording.number(best["p50_ms"])
    does = _DOES.get(wording.timed(best), "answers")
    return f"{best['name']} {does} in {time} ms on {best['where']}."


def regressions(
    records: Rows, summary: Mapping[str, Any], old_records: Rows, old: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A line per bundle, device and measure that both have; `worse` where it is.

    Records with other threads, pictures of another size or another search are not compared.
    """
    lines = []
    for row in records:
        before = former(row, old_records)
        if before is not None and not timed_otherwise(row, before):
            lines += _compared(f"{_bundle(row)} on {row.get('where', 'local')}", row, before)
    old_bundles = old.get("bundles", {})
    for key, row in summary.get("bundles", {}).items():
        if key in old_bundles:
            quality = {"CIDEr": row.get("CIDEr")}
            lines += _compared(str(key), quality, {"CIDEr": old_bundles[key].get("CIDEr")})
    return lines


def _compared(
    label: str, row: Mapping[str, Any], before: Mapping[str, Any]
) -> list[dict[str, Any]]:
    lines = []
    for name, key, write, is_worse in _COMPARED:
        now, then = row.get(key), before.get(key)
        if now is None or not then:
            continue
        lines.append(
            {
                "label": label,
                "what": name,
                "before": write(then),
                "now": write(now),
                "factor": wording.number(now / then),
                "worse": bool(is_worse(now / then)),
            }
        )
    return lines


def _bundle(row: Mapping[str, Any]) -> str:
    return f"{row['name']} ({row['target']} {row['precision']})"


def _device(row: Mapping[str, Any]) -> str:
    cpu = row.get("device", {}).get("cpu")
    where = str(row.get("where", "local"))
    return f"{where} · {cpu}" if cpu else where


def _beams(row: Mapping[str, Any]) -> str:
    return wording.count(row.get("settings", {}).get("decode", {}).get("num_beams"))


def _of_roof(row: Mapping[str, Any]) -> str:
    shares = [found["share"] for found in (row.get("reached") or {}).values()]
    return " · ".join(f"{share:.0%}" for share in shares) or wording.number(None)


def _marks(row: Mapping[str, Any]) -> list[str]:
    found = [name for name in ("noisy", "throttled") if row.get(name)]
    return found if row.get("complete", True) else ["incomplete", *found]


def _least(row: Mapping[str, Any], key: str) -> float | None:
    """Of a few fresh processes the quickest: what disturbs only makes one slower."""
    return min(row.get(key) or [], default=None)


def _stages(row: Mapping[str, Any]) -> dict[str, float]:
    """Median milliseconds of each stage, in the order of time; empty when they are not known."""
    stats = row.get("stats", {})
    known = {stage: stats[f"{stage}_ms"] for stage in _STAGES if f"{stage}_ms" in stats}
    return {stage: float(found["p50_ms"]) for stage, found in known.items()}


def _bar(row: Mapping[str, Any], longest: float | None) -> dict[str, Any]:
    stages = _stages(row)
    whole = longest or sum(stages.values()) or 1.0
    words = ", ".join(f"{name} {wording.number(ms)} ms" for name, ms in stages.items())
    return {
        "label": f"{_bundle(row)} on {row.get('where', 'local')}",
        "words": words,
        "parts": [
            {"stage": name, "share": round(100 * ms / whole, 2)} for name, ms in stages.items()
        ],
    }


def _graphs(row: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "label": f"{_bundle(row)}: {graph}",
            "device": _device(row),
            "units": str(unit),
            "p50": wording.number(found.get("p50_ms")),
            "operators": wording.plain(found.get("operators") or None),
        }
        for graph, units in (row.get("graphs") or {}).items()
        for unit, found in units.items()
    ]
