"""CapFilt by two workers against one, as processes and on Ray, each with a processor of its own.

    python benchmarks/capfilt_workers.py -o runs/standard   # after standard_bench.py
    python benchmarks/capfilt_workers.py --table            # record -> train/README.md

A worker writes and judges with one thread, by the 8-bit bundles of capfilt_throughput.py; one is
held to one processor, two to two. What Ray and the models need to start is taken out: the rate is
that of the pictures by which a longer run differs from a short one. Linux only. The record is
benchmarks/results/capfilt-workers.json.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from capfilt_throughput import make
from runs import ROOT, RunOrTable, between, blip_edge, read

RECORD = ROOT / "benchmarks" / "results" / "capfilt-workers.json"
PAGE = ROOT / "train" / "README.md"
BEGIN = "<!-- workers: written by benchmarks/capfilt_workers.py -->\n"
END = "<!-- /workers -->\n"
GOAL = 1.6
WAYS = {"processes": (), "ray": ("--ray", "local")}
"""Flags by row."""
WORKERS = (1, 2)
SHORT, LONG = 256, 2304
"""Pictures of the two runs of which a rate is taken: one part of the work, and nine."""


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Pictures a second of every way with one worker and two, in turns."""
    for pictures in (SHORT, LONG):
        make(folder, pictures, f"web-{pictures}")
    rates: dict[str, list[float]] = {
        f"{way}-{workers}": [] for way, workers in product(WAYS, WORKERS)
    }
    for number in range(rounds):
        order = list(product(WAYS, WORKERS))
        for way, workers in order if number % 2 else reversed(order):
            took = [_seconds(folder, way, workers, pictures) for pictures in (SHORT, LONG)]
            rates[f"{way}-{workers}"].append(round((LONG - SHORT) / (took[1] - took[0]), 3))
            print(f"{way}, {workers}: {rates[f'{way}-{workers}'][-1]}/s", file=sys.stderr)
    return {"pictures": LONG - SHORT, "rates": rates}


def _seconds(folder: Path, way: str, workers: int, pictures: int) -> float:
    with TemporaryDirectory(dir=folder) as scratch, _processors(workers):
        started = time.perf_counter()
        words = ["capfilt", "--data", f"web-{pictures}", "--captioner", "caption-int8-onnx"]
        words += ["--filter", "retrieval-int8-onnx", "--threads", "1", *WAYS[way]]
        words += ["--processes", str(workers), "-o", str(Path(scratch) / "clean")]
        blip_edge(folder, words)
        return time.perf_counter() - started


@contextmanager
def _processors(number: int) -> Iterator[None]:
    """What is started in here has only so many processors."""
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_of_them)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def table(kept: dict[str, Any]) -> str:
    """What a record says."""
    lines = [
        "| | one worker, pictures/s | two | ratio | goal |",
        "|---|---|---|---|---|",
    ]
    for way, name in (("processes", "`--processes`"), ("ray", "`--ray local --processes`")):
        one, two = (kept["rates"][f"{way}-{workers}"] for workers in WORKERS)
        ratios = [b / a for a, b in zip(one, two, strict=True)]
        ratio = statistics.median(ratios)
        lines.append(
            f"| {name} | {statistics.median(one):.1f} | {statistics.median(two):.1f} "
            f"| {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {GOAL:g} ({'met' if ratio >= GOAL else 'missed'}) |"
        )
    rounds = len(kept["rates"]["ray-1"])
    lines += [
        "",
        f"A worker has one thread and a processor of its own; {kept['pictures']} pictures, "
        f"{rounds} rounds in turns, the time to start taken out. A worker on Ray is two actors, "
        "one that writes and one that judges.",
    ]
    return "\n".join(lines) + "\n"


def with_table(page: str, kept: dict[str, Any]) -> str:
    """`page` with the words of a record between its two marks."""
    return between(page, BEGIN, END, table(kept))


def main() -> None:
    """Measure, record and write; or the last alone."""
    parser = RunOrTable(__doc__, "the run folder of standard_bench.py")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.ask()
    if given.output is not None:
        kept = json.dumps(measure(given.output, given.rounds), indent=1)
        RECORD.write_text(f"{kept}\n", encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), read(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
