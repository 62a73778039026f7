"""One page that says what a run made, how good and how fast it is, and what it missed.

The page is a single file without scripts: pictures and plots are inside it, so that it can be
mailed, printed and archived. It shows what the summary says and invents nothing: what was not
measured is a dash, a goal that was missed is as visible as one that was met.

    report_run(Path("run"), Path("report.html"))
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blip_edge.artifact import read_json
from blip_edge.benchmarks import wording
from blip_edge.benchmarks.figures import Bar, Point, latency_plot, pareto_front, size_plot
from blip_edge.benchmarks.page import picture_uri, write_page
from blip_edge.benchmarks.report_devices import (
    device_rows,
    fastest,
    former_run,
    records_of,
    regressions,
)
from blip_edge.errors import ArtifactError

__all__ = ["report", "report_run", "verdict"]

_SUMMARY, _TEMPLATE = "summary.json", "report.html.j2"
_STAGES = {"teacher": "Teacher", "student": "Student", "pruned": "Pruned", "int8": "INT8"}
# column heading, the summary's key, how it is written, what the heading means
_COLUMNS = (
    ("Parameters", "parameters", wording.count, "weights of the model"),
    ("MB", "bytes", wording.megabytes, "megabytes on disk"),
    ("CIDEr", "CIDEr", wording.score, "times 100, on the test split"),
    ("Truth", "truth", wording.share, "captions that say nothing false"),
    ("Truth, unseen", "truth_unseen", wording.share, "the same on combinations never trained on"),
    ("Facts", "facts_per_caption", wording.number, "true facts in a caption, on average"),
    ("Distinct", "distinct_captions", wording.count, "different captions on the test split"),
    ("p50 ms", "p50_ms", wording.number, "median time from file to caption"),
    ("p90 ms", "p90_ms", wording.number, "nine of ten captions are faster"),
    (
        "Max diff",
        "max_abs_diff",
        lambda value: wording.number(value, 2),
        "largest difference of an output from torch's",
    ),
)


def report(
    summary: Mapping[str, Any], output: Path, *, folder: Path | None = None, force: bool = True
) -> Path:
    """Write the page of one run.

    Args:
        summary: `{"stages", "bundles", "goals", "samples", "data", "machine", "measurement",
            "notes", "seconds", "steps", "title"}`; whatever is absent is left out.
        output: the HTML file.
        folder: what the samples' relative picture paths start from; by default output's folder.
        force: replace an existing page.

    Raises:
        ArtifactError: the summary is none, a picture cannot be decoded, or `output` is taken or
            cannot be written.
    """
    output = Path(output)
    pages = [_page(summary, folder or output.parent, "run")]
    return write_page(_TEMPLATE, {"pages": pages}, output, force=force)


def report_run(
    run: Path | Sequence[Path], output: Path, *, against: Path | None = None, force: bool = True
) -> Path:
    """Write the page of run folders, one after the other, and of all records files together.

    Args:
        run: what `quickstart` wrote, or a file that `bench -o` wrote, or several of both.
        output: the HTML file.
        against: a former one of either kind; the page then says what has become worse.
        force: replace an existing page.

    Raises:
        ArtifactError: see `report`.
    """
    runs = [Path(run)] if isinstance(run, str | Path) else [Path(each) for each in run]
    folders, files = [each for each in runs if each.is_dir()], [p for p in runs if not p.is_dir()]
    groups = [([folder], _summary(folder)) for folder in folders]
    groups += [(files, {})] if files else []
    old = None if against is None else former_run(Path(against))
    pages = []
    for place, (sources, summary) in enumerate(groups):
        records = [record for source in sources for record in records_of(source)]
        name = ", ".join(source.resolve().name for source in sources)
        page = _page(summary, sources[0], name, place, records)
        if old is not None:
            rows = regressions(records, summary, *old)
            page["against"] = {"name": Path(str(against)).name, "rows": rows}
        pages.append(page)
    return write_page(_TEMPLATE, {"pages": pages}, Path(output), force=force)


def _summary(folder: Path) -> dict[str, Any]:
    summary = read_json(folder / _SUMMARY)
    if not isinstance(summary, dict):
        raise ArtifactError(f"{folder / _SUMMARY} is not the summary of a run")
    return summary


def verdict(summary: Mapping[str, Any]) -> str:
    """The run in one sentence or two: the fastest bundle against the teacher, and the goals."""
    teacher = summary.get("stages", {}).get("teacher", {})
    timed = {key: row for key, row in summary.get("bundles", {}).items() if row.get("p50_ms")}
    words = ""
    if timed:
        key = min(timed, key=lambda name: float(timed[name]["p50_ms"]))
        row = timed[key]
        parts = [f"captions a picture in {wording.number(row['p50_ms'])} ms"]
        if row.get("bytes") and teacher.get("bytes"):
            smaller = wording.number(teacher["bytes"] / row["bytes"])
            parts.append(f"is {smaller} times smaller than the teacher")
        if row.get("CIDEr") is not None and teacher.get("CIDEr") is not None:
            quality = f"reaches CIDEr {wording.score(row['CIDEr'])}"
            parts.append(f"{quality} against the teacher's {wording.score(teacher['CIDEr'])}")
        words = f"{wording.bundle_name(key, row)} {_listed(parts)}. "
    return (words + _goals_in_words(summary.get("goals", []))).strip()


def _listed(parts: Sequence[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _goals_in_words(goals: Sequence[Mapping[str, Any]]) -> str:
    if not goals:
        return "No goals were set."
    missed = [str(goal["name"]) for goal in goals if goal.get("met") is False]
    open_ones = sum(goal.get("met") is None for goal in goals)
    if missed:
        return f"{len(missed)} of {len(goals)} goals missed: {', '.join(missed)}."
    if open_ones:
        return f"{len(goals) - open_ones} of {len(goals)} goals met, {open_ones} not measured."
    return f"All {len(goals)} goals met."


def _page(
    summary: Mapping[str, Any],
    folder: Path,
    name: str,
    place: int = 0,
    records: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What the template shows of one run, the `place`-th on the page."""
    try:
        rows = _rows(summary)
        return {
            "name": name,
            "title": str(summary.get("title", "BLIP on the edge")),
            "verdict": verdict(summary) if summary or not records else fastest(records),
            "devices": device_rows(records),
            "against": None,
            "tiles": _tiles(summary),
            "table": _table(rows),
            "plots": _plots(summary, rows, str(place)),
            "samples": [_sample(sample, folder) for sample in summary.get("samples", [])],
            "goals": [_goal(goal) for goal in summary.get("goals", [])],
            "missed": sum(goal.get("met") is False for goal in summary.get("goals", [])),
            "how": _how(summary),
            "steps": _steps(summary),
            "notes": _notes(summary),
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = "the summary of a run" if summary or not records else "records that `bench` wrote"
        raise ArtifactError(f"{folder}: not {what} ({error!r})") from None


def _rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Stages, then bundles, each with its name and kind."""
    rows = [
        {**row, "label": _STAGES.get(key, key), "kind": "stage"}
        for key, row in summary.get("stages", {}).items()
    ]
    for key, row in summary.get("bundles", {}).items():
        rows.append({**row, "label": wording.bundle_name(key, row), "kind": "bundle"})
    return rows


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that at least one row knows, and every row's words in them."""
    known = [column for column in _COLUMNS if any(row.get(column[1]) is not None for row in rows)]
    return {
        "columns": [{"name": heading, "hint": hint} for heading, _, _, hint in known],
        "rows": [
            {
                "label": row["label"],
                "kind": row["kind"],
                "note": row.get("note") or "",
                "cells": [write(row.get(key)) for _, key, write, _ in known],
            }
            for row in rows
        ],
    }


def _tiles(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The four figures that are looked at first."""
    bundles = summary.get("bundles", {})
    tiles = []
    fast = {key: row["p50_ms"] for key, row in bundles.items() if row.get("p50_ms")}
    small = {key: row["bytes"] for key, row in bundles.items() if row.get("bytes")}
    good = {key: row["CIDEr"] for key, row in bundles.items() if row.get("CIDEr") is not None}
    for title, values, unit, write, choose in (
        ("Fastest caption", fast, "ms", wording.number, min),
        ("Smallest bundle", small, "MB", wording.megabytes, min),
        ("Best bundle", good, "CIDEr", wording.score, max),
    ):
        if values:
            key = choose(values, key=values.__getitem__)
            tiles.append(
                {
                    "title": title,
                    "value": write(values[key]),
                    "unit": unit,
                    "detail": wording.bundle_name(key, bundles[key]),
                }
            )
    goals = summary.get("goals", [])
    if goals:
        met = sum(goal.get("met") is True for goal in goals)
        missed = sum(goal.get("met") is False for goal in goals)
        detail = f"{missed} missed" if missed else "none missed"
        tiles.append(
            {"title": "Goals met", "value": str(met), "unit": f"of {len(goals)}", "detail": detail}
        )
    return tiles


def _plots(
    summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], place: str
) -> dict[str, Any]:
    """The two plots, each for wide and for narrow screens, and in words."""
    timed = [row for row in rows if row.get("p50_ms") and row.get("CIDEr") is not None]
    bundles = {row["p50_ms"] for row in timed if row["kind"] == "bundle"}
    points = [
        Point(str(row["label"]), float(row["p50_ms"]), float(row["CIDEr"]), row["kind"] == "bundle")
        for row in timed
        # A stage whose time is that of a bundle on the page would be one point twice.
        if row["kind"] == "bundle" or row["p50_ms"] not in bundles
    ]
    bars = [
        Bar(
            label=str(row["label"]),
            megabytes=row["bytes"] / 1e6,
            note="" if row.get("CIDEr") is None else f"CIDEr {wording.score(row['CIDEr'])}",
            bundle=row["kind"] == "bundle",
        )
        for row in rows
        if row.get("bytes")
    ]
    reference = summary.get("stages", {}).get("teacher", {}).get("CIDEr")
    sides = {"wide": False, "narrow": True}
    plots: dict[str, Any] = {"latency": None, "sizes": None}
    if points:
        plots["latency"] = {
            side: latency_plot(points, reference=reference, narrow=narrow, salt=f"{place}l{side}")
            for side, narrow in sides.items()
        } | {"words": _points_in_words(points)}
    if bars:
        plots["sizes"] = {
            side: size_plot(bars, narrow=narrow, salt=f"{place}s{side}")
            for side, narrow in sides.items()
        } | {"words": "; ".join(f"{b.label}: {wording.number(b.megabytes)} MB" for b in bars)}
    return plots


def _points_in_words(points: Sequence[Point]) -> str:
    words = "; ".join(_point_in_words(point) for point in points)
    front = pareto_front(points)
    if len(front) < 2:
        return words
    return f"{words}. Nobody is both faster and better than {_listed([p.label for p in front])}"


def _point_in_words(point: Point) -> str:
    return f"{point.label}: {wording.number(point.p50_ms)} ms, CIDEr {point.quality:.1f}"


def _sample(sample: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    path = Path(str(sample["image"]))
    source, tiny = picture_uri(path if path.is_absolute() else folder / path)
    captions = [
        {
            "by": _STAGES.get(key) or wording.bundle_name(key, caption),
            "text": caption.get("text") or "(nothing)",
            "true": caption.get("true"),
        }
        for key, caption in sample.get("captions", {}).items()
    ]
    reference = sample.get("reference") or ""
    return {
        "source": source,
        "tiny": tiny,
        "alt": f"Test picture {path.name}" + (f": {reference}" if reference else ""),
        "reference": reference,
        "captions": captions,
    }


def _goal(goal: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": str(goal["name"]),
        "goal": wording.plain(goal.get("goal")),
        "measured": wording.plain(goal.get("measured")),
        "met": goal.get("met"),
    }


def _how(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Groups of facts; peaks and packages of the machine stand apart from its name."""
    machine = dict(summary.get("machine") or {})
    packages = machine.pop("packages", None) or {}
    peaks = machine.pop("peaks", None) or {}
    groups = (
        ("Machine", {**machine, **peaks}),
        ("Measurement", summary.get("measurement") or {}),
        ("Data", summary.get("data") or {}),
        ("Packages", packages),
    )
    return [
        {"title": title, "facts": wording.facts(values)}
        for title, values in groups
        if wording.facts(values)
    ]


def _steps(summary: Mapping[str, Any]) -> dict[str, Any]:
    steps = summary.get("steps", [])
    longest = max((float(step["seconds"]) for step in steps), default=0.0) or 1.0
    return {
        "total": wording.duration(summary.get("seconds")),
        "rows": [
            {
                "name": str(step["name"]),
                "time": wording.duration(step["seconds"]),
                "share": round(100 * float(step["seconds"]) / longest, 1),
            }
            for step in steps
        ],
    }


def _notes(summary: Mapping[str, Any]) -> list[str]:
    notes = [str(note) for note in summary.get("notes", [])]
    for key, row in summary.get("bundles", {}).items():
        if row.get("note"):
            notes.append(f"{wording.bundle_name(key, row)}: {row['note']}")
    return notes
