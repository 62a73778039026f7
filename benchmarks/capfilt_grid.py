"""CapFilt measured: models that learn from noisy, filtered and bootstrapped texts, from nothing.

    python benchmarks/capfilt_grid.py -o runs/capfilt --minutes 60   # goes on where it stopped
    python benchmarks/capfilt_grid.py --table                        # record -> train/README.md

The paper's tables 1, 2, 4 and 12 in small (arXiv 2201.12086), and what it leaves to others: rounds,
several captions, ensembles. Pictures are the drawn world's, two in five of the web's texts wrong;
what is measured is what a model says and finds on pictures that people wrote about. Rows train
equally long but for those that say how long. The record is train/capfilt.json; what it says of rows
that the run folder has not stays.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capfilt_table import PAGE, with_table
from runs import ROOT, RunOrTable, blip_edge, read

RECORD = ROOT / "train" / "capfilt.json"
SEEDS = (0, 1, 2)
STEPS, LONG = 2000, 5000
READ = 32
"""Candidates of a query that are read again, of the test split's 500."""
SURE = 0.88
"""How sure is sure enough: looked for on val's pictures, of which people wrote."""
METRICS = {"caption": ("truth", "CIDEr"), "retrieval": ("r_mean",)}


@dataclass(frozen=True)
class Row:
    """One way to the texts that a model learns from."""

    name: str
    what: str
    captioners: tuple[str, ...] = ()
    """Rows whose model was tuned to caption; `base` is that of the noisy texts."""
    filters: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    steps: int = STEPS
    seeded: bool = False


_NOISY, _BOTH = ("noisy",), {"captioners": ("noisy",), "filters": ("noisy",)}

ROWS = (
    Row("noisy", "people's and the web's texts", seeded=True),
    Row("filter", "filter only", filters=_NOISY, seeded=True),
    Row("captioner", "captioner only", captioners=_NOISY, seeded=True),
    Row("both", "captioner and filter", **_BOTH, seeded=True),
    Row(
        "sure",
        f"captioner and filter, new texts from a confidence of {SURE:g} on",
        **_BOTH,
        flags=("--set", f"min_confidence={SURE:g}"),
        seeded=True,
    ),
    Row(
        "filtered",
        "both, by models of the filtered texts",
        ("filter",),
        ("filter",),
        ("--set", "round=2"),
    ),
    Row("beams", "both, captions by beam search", **_BOTH, flags=("--recipe", "web-beams")),
    Row("shared", "both, one model for the two", ("shared",), ("shared",)),
    Row("longer", "people's and the web's texts, 5,000 steps", steps=LONG),
    Row("longer-filter", "filter only, 5,000 steps", filters=("longer",), steps=LONG),
    Row(
        "longer-both",
        "both, by models of the filtered texts, 5,000 steps",
        ("longer-filter",),
        ("longer-filter",),
        ("--set", "round=2"),
        steps=LONG,
    ),
    Row("two", "both, two captions a picture", **_BOTH, flags=("--set", "captions=2")),
    Row("four", "both, four captions a picture", **_BOTH, flags=("--recipe", "web-several")),
    Row(
        "round-2", "both, by models of the round before", ("both",), ("both",), ("--set", "round=2")
    ),
    Row(
        "round-3",
        "both, a third round",
        ("round-2",),
        ("round-2",),
        ("--set", "round=3"),
    ),
    Row(
        "ensemble",
        "both, two captioners and two filters of two rounds",
        ("noisy", "both"),
        ("noisy", "both"),
    ),
)


@dataclass(frozen=True)
class Cell:
    """A row with a seed, and its folders in the run folder."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        """Of its folders and files."""
        return f"{self.row.name}-{self.seed}"

    @property
    def bootstrapped(self) -> bool:
        """Whether its texts are not those of the data set."""
        return bool(self.row.captioners or self.row.filters)


def cells() -> Iterator[Cell]:
    """All, in the order in which they are run: what carries a claim comes first."""
    for seed in SEEDS:
        yield from (Cell(row, seed) for row in ROWS if row.seeded)
    yield from (Cell(row, SEEDS[0]) for row in ROWS if not row.seeded)


def run(folder: Path, minutes: float, seeds: int) -> None:
    """Make and measure what is not there yet, until the time is up."""
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes
    if not (folder / "data").exists():
        blip_edge(folder, ["data", "make", "shapes", "--recipe", "shapes-web", "-o", "data"])
    for cell in cells():
        if time.monotonic() > end:
            break
        if cell.seed < seeds:
            _make(folder, cell)


def _make(folder: Path, cell: Cell) -> None:
    data = "data"
    if cell.bootstrapped:
        data = f"texts-{cell.name}"
        if not (folder / data).exists():
            blip_edge(folder, [*_capfilt(folder, cell), "-o", data])
    _train(folder, "pretrain", data, cell.name, cell.seed, ["--set", f"steps={cell.row.steps}"])
    for task in METRICS:
        if not (found := _found(folder, cell, task)).exists():
            words = ["eval", cell.name, "--task", task, "--data", "data", "--ci", "--json"]
            words += ["--k", str(READ)] if task == "retrieval" else []
            found.write_text(blip_edge(folder, words), encoding="utf-8")


def _capfilt(folder: Path, cell: Cell) -> list[str]:
    """The command that bootstraps a cell's texts; the models that it needs are made first."""
    words = ["capfilt", "--data", "data", *cell.row.flags, "--seed", str(cell.seed)]
    for flag, task, rows in (
        ("--captioner", "caption", cell.row.captioners),
        ("--filter", "retrieval", cell.row.filters),
    ):
        for name in rows:
            words += [flag, _exported(folder, _tuned(folder, name, task, cell.seed))]
    return words


def _exported(folder: Path, model: str) -> str:
    """The same model on ONNX Runtime, several times as fast over a whole data set."""
    bundle = f"{model}-onnx"
    if not (folder / bundle).exists():
        words = ["export", model, "--target", "onnx", "--precision", "fp32", "-o", bundle]
        blip_edge(folder, words)
    return bundle


def _tuned(folder: Path, name: str, task: str, seed: int) -> str:
    """A row's model, tuned on people's texts for its part, or for both parts at once."""
    if name == "shared":
        _without_web(folder)
        sets = ("steps=300", "lr=2e-4", "warmup=20")  # those of the recipes for one part
        also = [word for pair in sets for word in ("--set", pair)]
        output, init = f"shared-by-two-{seed}", ["--init", f"noisy-{seed}"]
        _train(folder, "pretrain", "people", output, seed, [*init, *also])
        return output
    output = f"{task}-{name}-{seed}"
    _train(folder, task, "data", output, seed, ["--init", f"{name}-{seed}"])
    return output


def _without_web(folder: Path) -> None:
    """The data set of people's texts alone."""
    if (people := folder / "people").exists():
        return
    data, draft = folder / "data", folder / ".people"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for path in data.glob("*.json"):
        if not path.name.startswith("web_"):
            shutil.copyfile(path, draft / path.name)
    (draft / "images").symlink_to((data / "images").resolve())
    draft.rename(people)


def _train(folder: Path, task: str, data: str, output: str, seed: int, also: list[str]) -> None:
    if (folder / output).exists():
        return
    words = ["train", "--data", data, "--recipe", f"shapes-web-{task}", *also]
    blip_edge(folder, [*words, "--seed", str(seed), "-o", output])


def _found(folder: Path, cell: Cell, task: str) -> Path:
    return folder / f"{cell.name}-{task}.json"


def record(folder: Path, kept: dict[str, Any]) -> dict[str, Any]:
    """What is there of the grid, and what was `kept` of the rest."""
    found: dict[str, Any] = {}
    for cell in cells():
        if not all(_found(folder, cell, task).exists() for task in METRICS):
            continue
        said = {task: read(_found(folder, cell, task)) for task in METRICS}
        entry: dict[str, Any] = {
            "metrics": {
                name: {
                    "value": round(said[task]["metrics"][name], 4),
                    "interval": [round(bound, 4) for bound in said[task]["intervals"][name]],
                }
                for task, names in METRICS.items()
                for name in names
            }
        }
        if cell.bootstrapped:
            texts = read(folder / f"texts-{cell.name}" / "capfilt.json")
            entry["texts"] = {
                source: {
                    key: texts[source][key]
                    for key in ("texts", "kept", "noise_ratio", "truth", "diversity")
                    if key in texts[source]
                }
                for source in ("web", "synthetic")
            }
        found[cell.name] = entry
    dataset = read(folder / "data" / "dataset.json")
    told = {**kept["cells"], **found}
    order = {cell.name: told[cell.name] for cell in cells() if cell.name in told}
    return {"data": dataset["recipe"], "steps": STEPS, "cells": order}


def main() -> None:
    """Run and record, and write the table; or the latter alone."""
    parser = RunOrTable(__doc__, "the run folder")
    parser.add_argument("--minutes", type=float, default=600, help="no new row after so many")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="only the first so many")
    given = parser.ask()
    if given.output is not None:
        run(given.output, given.minutes, given.seeds)
        told = json.dumps(record(given.output, read(RECORD)), indent=1)
        RECORD.write_text(f"{told}\n", encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), read(RECORD), ROWS, SEEDS))


if __name__ == "__main__":
    main()
