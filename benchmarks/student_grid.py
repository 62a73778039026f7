"""The grid of students: every way to a smaller model, for every task of the standard drawn world.

    python benchmarks/student_grid.py -o runs/standard --minutes 60   # goes on where it stopped
    python benchmarks/student_grid.py --table                         # record -> distill/README.md

The run folder is that of standard_bench.py: its data and its models, which are the teachers. A cell
takes minutes; those that were not run are told as such. The record is distill/standard.json. What
it says of a task and seed stays if the folder has no teacher for these: a teacher's students are
measured against it and no other.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grid_cells import ROWS, SEEDS, TASKS, Cell, cells, made_as, make_command, teacher
from runs import ROOT, RunOrTable, blip_edge, read
from standard_bench import LINES
from student_tables import PAGE, PLOT, RANKINGS, draw, with_table

RECORD = ROOT / "distill" / "standard.json"
METRICS = {line.task: line.metric for line in LINES if line.banded}
TIMED = {"latency_ms": [row.name for row in ROWS], "ranked_ms": list(RANKINGS)}
"""Of which rows the models run in turns: of all, and of the two rankings by latency."""
READ = 32
"""Candidates of a query that are read again, of the test split's 500."""


def run(folder: Path, minutes: float, wanted: Sequence[Cell]) -> None:
    """Make and measure what is wanted and not there yet, until the time is up."""
    (folder / "students").mkdir(exist_ok=True)
    end = time.monotonic() + 60 * minutes
    for cell in dict.fromkeys(made_as(cell) for cell in wanted):
        if not _can_begin(folder, cell):
            continue
        if time.monotonic() > end:
            break
        model, command = _model(cell), make_command(cell)
        if command is not None and not (folder / model).exists():
            blip_edge(folder, command)
        if not _found(folder, cell).exists():
            words = ["eval", model, "--task", cell.task, "--data", "data", "--ci", "--json"]
            words += ["--k", str(READ)] if cell.task == "retrieval" else []
            _found(folder, cell).write_text(blip_edge(folder, words), encoding="utf-8")


def _can_begin(folder: Path, cell: Cell) -> bool:
    """Whether the folder holds what a cell's model is made from; of a first teacher, itself."""
    trained = cell.row.verb is None and cell.seed
    return (folder / ("pretrain" if trained else teacher(cell.task, cell.seed))).exists()


def time_models(folder: Path, task: str, rows: Sequence[str], output: Path) -> None:
    """Export a model of each of these rows, and measure them all in one run."""
    bundles = []
    models = timed(folder, task)
    for model in dict.fromkeys(models[row] for row in rows if row in models):
        if not (folder / (bundle := _bundle(model))).exists():
            export = ["export", model, "--target", "onnx", "--precision", "fp32"]
            blip_edge(folder, [*export, "-o", bundle])
        bundles.append(bundle)
    words = ["bench", *bundles, "--data", "data", "--threads", "1", "--recipe", "normal", "--json"]
    output.write_text(blip_edge(folder, words), encoding="utf-8")


def timed(folder: Path, task: str) -> dict[str, str]:
    """Of each row the model that is timed: of its first seed that is there.

    Students of one size are equally fast, so that one may stand for another row's.
    """
    there = [cell for cell in cells() if cell.task == task and _found(folder, cell).exists()]
    found = {}
    for row in (row for row in ROWS if task in row.tasks):
        alike = [cell for cell in there if cell.row == row] or [
            cell for cell in there if row.verb == "distill" and cell.row.flags == row.flags
        ]
        if alike:
            found[row.name] = _model(min(alike, key=lambda cell: cell.seed))
    return found


def record(folder: Path, kept: dict[str, Any]) -> dict[str, Any]:
    """What is there of the grid, and what was `kept` of teachers that are not there."""
    found: dict[str, Any] = {}
    for cell in cells():
        if not (folder / teacher(cell.task, cell.seed)).exists():
            found |= {cell.name: kept["cells"][cell.name]} if cell.name in kept["cells"] else {}
            continue
        if not _found(folder, cell).exists():
            continue
        said = read(_found(folder, cell))
        metric = METRICS[cell.task]
        model = folder / _model(cell)
        config = json.loads(blip_edge(folder, ["inspect", _model(cell), "--json"]))
        found[cell.name] = {
            "metric": said["metrics"][metric],
            "interval": said["intervals"][metric],
            "items": said["items"],
            "parameters": config["parameters"],
            "minutes": round(read(model / "provenance.json")["seconds"] / 60, 1),
        }
    return {
        "metrics": METRICS,
        "cells": found,
        **{
            key: {
                task: _latencies(folder, task, _times(folder, task, key), kept[key].get(task, {}))
                for task in TASKS
            }
            for key in TIMED
        },
    }


def _latencies(folder: Path, task: str, told: Path, kept: dict[str, float]) -> dict[str, float]:
    """Median milliseconds of one caption, comparison, answer or judgement, by row."""
    if not told.exists():
        return {} if (folder / task).exists() else dict(kept)
    took = {row["name"]: round(row["p50_ms"], 3) for row in read(told)}
    names = {row: Path(_bundle(model)).name for row, model in timed(folder, task).items()}
    return {row: took[name] for row, name in names.items() if name in took}


def _bundle(model: str) -> str:
    return f"students/onnx-{Path(model).name}"


def _times(folder: Path, task: str, key: str) -> Path:
    return folder / "students" / f"{key.removesuffix('_ms')}-{task}.json"


def _model(cell: Cell) -> str:
    return cell.task if make_command(cell) is None else f"students/{made_as(cell).name}"


def _found(folder: Path, cell: Cell) -> Path:
    return folder / "students" / f"{made_as(cell).name}.json"


def main() -> None:
    """Run, record, draw and write the table; or the last two alone."""
    parser = RunOrTable(__doc__, "the run folder of standard_bench.py")
    parser.add_argument("--minutes", type=float, default=600, help="no new cell after so many")
    for what, names in (("task", TASKS), ("row", [row.name for row in ROWS]), ("seed", SEEDS)):
        told = f"of these {what}s only: {', '.join(map(str, names))}"
        options = {"type": type(names[0]), "choices": names, "metavar": what.upper()}
        parser.add_argument(f"--{what}s", nargs="+", default=names, help=told, **options)
    parser.add_argument(
        "--latency", action="store_true", help="also time all models of these tasks"
    )
    parser.add_argument(
        "--ranked", action="store_true", help="also time the two that are ranked per latency"
    )
    given = parser.ask()
    if given.output is not None:
        wanted = [
            cell
            for cell in cells()
            if cell.task in given.tasks and cell.row.name in given.rows and cell.seed in given.seeds
        ]
        run(given.output, given.minutes, wanted)
        asked = {"latency_ms": given.latency, "ranked_ms": given.ranked}
        for key in (key for key in TIMED if asked[key]):
            for task in given.tasks:
                time_models(given.output, task, TIMED[key], _times(given.output, task, key))
        told = json.dumps(record(given.output, read(RECORD)), indent=1)
        RECORD.write_text(f"{told}\n", encoding="utf-8")
    kept = read(RECORD)
    draw(kept, ROWS, PLOT)
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")


if __name__ == "__main__":
    main()
