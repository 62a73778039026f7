"""8 bits in every form, on every engine: what it costs in quality, megabytes and milliseconds.

    python benchmarks/quantize_grid.py -o runs/standard --minutes 60   # goes on where it stopped
    python benchmarks/quantize_grid.py -o runs/standard --book runs/picturebook
    python benchmarks/quantize_grid.py --table                    # record -> quantize/README.md

The run folder is that of standard_bench.py and student_grid.py: their models, trained on the
standard drawn world; the book's is that of picturebook_students.py. The metric is of the test
split, the latency of one interleaved run. What was not run is told as such. The record is
quantize/standard.json.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from quantize_table import PAGE, SHIPPED, with_table
from runs import ROOT, RunOrTable, blip_edge, read

RECORD = ROOT / "quantize" / "standard.json"
TARGETS = ("onnx", "openvino", "coreml")


@dataclass(frozen=True)
class Form:
    """A line of the table: how a model is rounded."""

    name: str
    what: str
    flags: tuple[str, ...] | None
    """Of `quantize`; None leaves the model in float."""
    targets: tuple[str, ...] = TARGETS


def _sets(*pairs: str) -> tuple[str, ...]:
    return tuple(word for pair in pairs for word in ("--set", pair))


FORMS = (
    Form("float", "float32", None),
    Form("static", "static", _sets("mode=static")),
    Form("smooth", "static, smoothed", _sets("mode=static", "smooth=search")),
    Form("dynamic", "dynamic", _sets("mode=dynamic"), ("onnx", "openvino")),
    Form("weights-8", "weights only, 8 bits", _sets("mode=weight-only")),
    Form(
        "mixed-4",
        "static, the decoder's weights in 4 bits",
        _sets("mode=static", "decoder_mode=weight-only", "weight_bits=4"),
        ("onnx", "openvino"),
    ),
    Form("qat", "static, trained for it", _sets("mode=qat", "steps=150", "lr=1e-4", "batch=32")),
)


@dataclass(frozen=True)
class Model:
    """A trained model of a run folder, and what is measured of it."""

    path: str
    task: str
    metric: str
    book: bool = False
    """Whether it is of the picture book's run folder."""


MODELS = {
    "caption": Model("caption", "caption", "truth"),
    "student": Model("students/caption-25-views-0", "caption", "truth"),
    "retrieval": Model("retrieval", "retrieval", "r_mean"),
    "vqa": Model("vqa", "vqa", "vqa_accuracy"),
    "book-caption": Model("students/caption-distilled", "caption", "CIDEr", book=True),
    "book-retrieval": Model("students/retrieval-distilled", "retrieval", "r_mean", book=True),
}
SEEDS = (0, 1, 2)
"""Of the pictures that ranges are read from: for these models, in the form that is shipped."""
SEEDED = ("caption", "retrieval")
ITEMS = {"coreml": 100}
"""Core ML is evaluated operator by operator here, which takes long."""
READ = 32
"""Candidates of a query that are read again, of the test split's 500."""


@dataclass(frozen=True)
class Cell:
    """A model in one form on one engine."""

    model: str
    form: Form
    target: str
    seed: int = SEEDS[0]

    @property
    def of(self) -> Model:
        """What is rounded."""
        return MODELS[self.model]

    @property
    def name(self) -> str:
        """Of its bundle and files."""
        return f"{self.model}-{self.form.name}-{self.target}{_suffix(self.seed)}"


def _suffix(seed: int) -> str:
    return f"-{seed}" if seed else ""


def cells() -> Iterator[Cell]:
    """All, in the order in which they are run: what carries a claim comes first, and the engines of
    this machine before the simulated one."""
    claimed, others = FORMS[:2], FORMS[2:]
    for forms, targets in product((claimed, others), (TARGETS[:2], TARGETS[2:])):
        for model, form, target in product(MODELS, forms, targets):
            if target not in form.targets:
                continue
            yield Cell(model, form, target)
            if form.name == SHIPPED and model in SEEDED:
                yield from (Cell(model, form, target, seed) for seed in SEEDS[1:])


def run(folder: Path, book: Path | None, minutes: float) -> None:
    """Make and measure what is not there yet, until the time is up."""
    end = time.monotonic() + 60 * minutes
    for cell in cells():
        if time.monotonic() > end:
            break
        here = book if cell.of.book else folder
        if here is None or _found(here, cell).exists() or _refused(here, cell).exists():
            continue
        (here / "int8").mkdir(exist_ok=True)
        _measure(here, cell)


def _measure(folder: Path, cell: Cell) -> None:
    """Quantize and export what is missing, and measure; what is refused is noted."""
    try:
        model = _quantized(folder, cell)
        bundle = f"int8/{cell.name}"
        if not (folder / bundle).exists():
            precision = "fp32" if cell.form.flags is None else "int8"
            words = ["export", model, "--target", cell.target, "--precision", precision]
            blip_edge(folder, [*words, "-o", bundle])
        words = ["eval", bundle, "--task", cell.of.task, "--data", "data", "--ci", "--json"]
        words += ["--limit", str(ITEMS[cell.target])] if cell.target in ITEMS else []
        words += ["--k", str(READ)] if cell.of.task == "retrieval" else []
        found = blip_edge(folder, [*words, "--threads", "1"])
        _found(folder, cell).write_text(found, encoding="utf-8")
    except subprocess.CalledProcessError as error:
        if error.returncode < 0:  # somebody stopped it, which says nothing of the model
            raise
        _refused(folder, cell).write_text(f"exit code {error.returncode}\n", encoding="utf-8")


def _quantized(folder: Path, cell: Cell) -> str:
    """The model in the form of the cell, one for all engines."""
    if cell.form.flags is None:
        return cell.of.path
    output = f"int8/{cell.model}-{cell.form.name}{_suffix(cell.seed)}"
    if not (folder / output).exists():
        words = ["quantize", cell.of.path, "--data", "data", *cell.form.flags]
        # What it costs is measured by `eval`, on the test split.
        words += [*_sets("sensitivity=sqnr", "eval_items=0"), "--seed", str(cell.seed)]
        blip_edge(folder, [*words, "-o", output])
    return output


def time_captioners(folder: Path) -> None:
    """All captioners of the drawn world that this machine runs, in turns."""
    bundles = [
        f"int8/{cell.name}"
        for cell in cells()
        if cell.of.task == "caption"
        and not cell.of.book
        and not cell.seed
        and cell.target != "coreml"
        and _found(folder, cell).exists()
    ]
    words = ["bench", *bundles, "--data", "data", "--threads", "1", "--mode", "normal", "--json"]
    (folder / "int8" / "latency.json").write_text(blip_edge(folder, words), encoding="utf-8")


def record(folder: Path, book: Path | None, before: dict[str, Any]) -> dict[str, Any]:
    """What is there of the grid; without the book's folder its cells are those of `before`."""
    found: dict[str, Any] = {}
    for cell in cells():
        here = book if cell.of.book else folder
        if here is None:
            if cell.name in before["cells"]:
                found[cell.name] = before["cells"][cell.name]
            continue
        if _refused(here, cell).exists():
            found[cell.name] = {"refused": _refused(here, cell).read_text().strip()}
        if not _found(here, cell).exists():
            continue
        said, metric = read(_found(here, cell)), cell.of.metric
        graphs = read(here / "int8" / cell.name / "manifest.json")["graphs"]
        found[cell.name] = {
            "metric": round(said["metrics"][metric], 4),
            "interval": [round(bound, 4) for bound in said["intervals"][metric]],
            "items": said["items"],
            "bytes": sum(graph["bytes"] for graph in graphs.values()),
        }
    latency = folder / "int8" / "latency.json"
    rows = read(latency) if latency.exists() else []
    return {
        "metrics": {name: model.metric for name, model in MODELS.items()},
        "cells": found,
        "latency_ms": {row["name"]: round(row["p50_ms"], 3) for row in rows},
    }


def _found(folder: Path, cell: Cell) -> Path:
    return folder / "int8" / f"{cell.name}.json"


def _refused(folder: Path, cell: Cell) -> Path:
    return folder / "int8" / f"{cell.name}.refused"


def main() -> None:
    """Run, record and write the table; or the last alone."""
    parser = RunOrTable(__doc__, "the run folder of standard_bench.py")
    parser.add_argument("--book", type=Path, help="the run folder of picturebook_students.py")
    parser.add_argument("--minutes", type=float, default=600, help="no new cell after so many")
    parser.add_argument("--latency", action="store_true", help="also time the captioners")
    given = parser.ask()
    if given.output is not None:
        run(given.output, given.book, given.minutes)
        if given.latency:
            time_captioners(given.output)
        kept = json.dumps(record(given.output, given.book, read(RECORD)), indent=1)
        RECORD.write_text(f"{kept}\n", encoding="utf-8")
    page = with_table(PAGE.read_text(encoding="utf-8"), read(RECORD), FORMS, TARGETS)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
