"""What huge pages of memory are worth to a caption: a bundle with them and without, in turns.

    python benchmarks/huge_pages.py -o runs/cpu-inference    # after cpu_inference.py; five minutes
    python benchmarks/huge_pages.py --table                   # record -> benchmarks/README.md

Where Linux gives huge pages only to who asks (`madvise`), glibc asks for a program that was
started with GLIBC_TUNABLES=glibc.malloc.hugetlb=1. Whatever reads much memory then looks up fewer
pages. Each measurement is a process of its own: BLIP base in 8 bits, a greedy caption of 20 new
tokens, two threads. The record is results/huge-pages.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from cpu_ours import Ours
from cpu_table import PAGE
from cpu_tasks import BASE, inputs
from runs import between, read

from blip_edge.artifact import write_json
from blip_edge.benchmarks.machine import machine
from blip_edge.benchmarks.stats import ratio

RECORD = Path(__file__).resolve().parent / "results" / "huge-pages.json"
BEGIN = "<!-- huge pages: written by benchmarks/huge_pages.py -->\n"
END = "<!-- /huge pages -->\n"
BUNDLES = {"onnx-int8": "ONNX Runtime", "openvino-int8": "OpenVINO"}
WAYS = {"plain": "glibc.malloc.hugetlb=0", "huge": "glibc.malloc.hugetlb=1"}
STAGES = ("vision", "steps")
WARM, TIMED = 2, 5
SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def work(bundle: Path) -> None:
    """One process: medians of each stage in milliseconds, as a line of JSON."""
    asked = Ours(bundle, "caption-greedy", inputs(bundle.parent / "hf", BASE))
    rows = [asked.run()[1] for _ in range(WARM + TIMED)][WARM:]
    told = {stage: statistics.median(row[stage] for row in rows) for stage in rows[0]}
    print(json.dumps({"caption": sum(told.values()), **{one: told[one] for one in STAGES}}))


def run(folder: Path, rounds: int) -> dict[str, Any]:
    """All in turns."""
    samples: dict[str, dict[str, list[dict[str, float]]]] = {
        name: {way: [] for way in WAYS} for name in BUNDLES
    }
    for number in range(rounds):
        for name, ways in samples.items():
            for way in ways if number % 2 else reversed(ways):
                argv = [sys.executable, __file__, "--worker", str(folder / "caption" / name)]
                env = {**os.environ, "GLIBC_TUNABLES": WAYS[way]}
                out = subprocess.run(argv, env=env, check=True, stdout=subprocess.PIPE, text=True)
                ways[way].append(json.loads(out.stdout))
                print(f"round {number + 1}: {name} {way} {out.stdout}", end="", file=sys.stderr)
    return {
        "rounds": rounds,
        "transparent_hugepage": SWITCH.read_text(encoding="utf-8").strip(),
        "bundles": {name: _compared(ways) for name, ways in samples.items()},
        "machine": machine().to_json(),
    }


def _compared(ways: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """By stage: medians, and how many times as fast huge pages make it."""
    found = {}
    for stage in ("caption", *STAGES):
        plain, huge = ([row[stage] for row in ways[way]] for way in WAYS)
        faster = ratio(huge, plain)
        found[stage] = {
            "plain_ms": round(statistics.median(plain), 1),
            "huge_ms": round(statistics.median(huge), 1),
            "times": [faster.ratio, faster.low, faster.high],
        }
    return found


def table(kept: dict[str, Any]) -> str:
    """What a record says, in Markdown."""
    lines = [
        "| times as fast with huge pages (95 %) | whole caption | image tower | all steps |",
        "|---|---|---|---|",
    ]
    for name, found in kept["bundles"].items():
        cells = []
        for stage in ("caption", *STAGES):
            times, low, high = found[stage]["times"]
            cells.append(
                f"{times:.2f} ({low:.2f} to {high:.2f}); {found[stage]['plain_ms']:.0f} to "
                f"{found[stage]['huge_ms']:.0f} ms"
            )
        lines.append(f"| {BUNDLES[name]}, int8 | {' | '.join(cells)} |")
    lines += ["", f"{kept['rounds']} rounds in turns on {kept['machine']['cpu']}, 2 threads."]
    return "\n".join(lines) + "\n"


def with_table(page: str, kept: dict[str, Any]) -> str:
    """`page` with the table of a record between its two marks."""
    return between(page, BEGIN, END, table(kept))


def main() -> None:
    """Run and record, and write the table; or the latter alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, help="the run folder of cpu_inference.py")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        work(given.worker)
        return
    if given.table == (given.output is not None):
        parser.error("give either -o or --table")
    if given.output is not None:
        write_json(RECORD, run(given.output, given.rounds))
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), read(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
