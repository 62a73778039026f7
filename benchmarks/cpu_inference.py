"""BLIP base on two CPU threads: bundles of ours against what others run, in turns.

    python benchmarks/cpu_inference.py -o runs/cpu-inference    # an hour; goes on if killed
    python benchmarks/cpu_inference.py --table                   # records -> benchmarks/README.md
    python benchmarks/cpu_inference.py -o WORK --tasks vqa --variants hf-fp32 onnx-int8 --rounds 1
    python benchmarks/cpu_inference.py -o WORK --quick           # a tiny model, to try the program

All models have random weights, lively enough that pictures and words change the answer, and all
lengths are fixed. Bundles are made by `blip-edge import`, `quantize` and `export`. Every variant of
a task is a process of its own, so that its peak of memory is its own, and they take turns round by
round, so that a noisy neighbour falls on all. Before they are timed, ours in float32 must say word
for word what `transformers` says, and compute what it computes; how far the others agree is
recorded. The record is WORK/cpu-inference.json; those that the page shows are committed in
benchmarks/results.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cpu_table
from cpu_bundles import BUNDLES
from cpu_record import REFERENCE, agreement, race_of, unmeasured
from cpu_roof import WIDTHS, floor_ms
from cpu_tasks import BASE, DECODES, FORCED, TASKS, THREADS, TINY, ModelName, Sizes
from cpu_workers import VARIANTS, Failed, Worker, work

from blip_edge.artifact import write_json
from blip_edge.benchmarks.machine import machine

WARMUP = 1
_SIZES = {sizes.name: sizes for sizes in (BASE, TINY)}


def run(
    folder: Path, sizes: Sizes, tasks: list[str], variants: list[str], rounds: int
) -> dict[str, Any]:
    """Make what is missing, race task by task, and tell of it."""
    failed = _prepare(folder, sizes, tasks, variants)
    roof = _child("--roof", sizes.name)
    races = {}
    for task in tasks:
        why = failed[TASKS[task].model]
        races[task] = _race(
            folder, sizes, task, _of(TASKS[task].model, variants), why, rounds, roof
        )
    return {
        "settings": {
            "model": sizes.name,
            "image_size": sizes.image,
            "threads": THREADS,
            "rounds": rounds,
            "warmup": WARMUP,
            "forced": FORCED,
        },
        "reference": REFERENCE,
        "roof": roof,
        "tasks": races,
        "machine": machine().to_json(),
    }


def _prepare(
    folder: Path, sizes: Sizes, tasks: list[str], variants: list[str]
) -> dict[str, dict[str, str]]:
    """By model and variant: why it could not be made."""
    made = [name for name in variants if name in BUNDLES or name.startswith("plain")]
    return {
        name: _child("--prepare", str(folder), name, sizes.name, *_of(name, made))
        for name in dict.fromkeys(TASKS[task].model for task in tasks)
    }


def _of(model: ModelName, variants: list[str]) -> list[str]:
    """Those that there are of a model."""
    return [name for name in variants if DECODES[model] or not _decodes(name)]


def _decodes(variant: str) -> bool:
    return variant in BUNDLES and BUNDLES[variant].decodes


def _child(*argv: str) -> Any:
    """What this program answers in a process of its own, whose memory is given back."""
    done = subprocess.run([sys.executable, __file__, *argv], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"error: {argv[0].strip('-')} failed; its own message is above")
    return json.loads(done.stdout)


def _race(
    folder: Path,
    sizes: Sizes,
    task: str,
    variants: list[str],
    why: dict[str, str],
    rounds: int,
    roof: dict[str, Any],
) -> dict[str, Any]:
    """All variants of one task, each round beginning with another one."""
    argv = (str(folder), sizes.name, task)
    workers: dict[str, Worker] = {}
    missing = {name: unmeasured(why[name]) for name in variants if name in why}
    checks = {}
    try:
        for name in (name for name in variants if name not in why):
            worker = workers[name] = Worker([sys.executable, __file__, "--worker", name, *argv])
            try:
                checks[name] = worker.check(compiles=name.endswith("compiled"))
                for _ in range(WARMUP):
                    worker.step()
            except Failed as error:
                workers.pop(name).stop()
                missing[name] = unmeasured(str(error))
            print(f"{task}: {name} {missing.get(name, 'is ready')}", file=sys.stderr, flush=True)
        if REFERENCE not in workers:
            raise SystemExit(f"error: {REFERENCE}, {missing[REFERENCE]['why']}")
        agreements = {name: agreement(name, checks) for name in workers}
        rows = _rounds(task, workers, rounds)
    finally:
        for worker in workers.values():
            worker.stop()
    floors = {precision: round(floor_ms(task, sizes, roof, precision), 3) for precision in WIDTHS}
    return race_of(task, checks, agreements, rows, missing, floors)


def _rounds(task: str, workers: dict[str, Worker], rounds: int) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for number in range(rounds):
        first = number % len(workers)
        for name in [*workers][first:] + [*workers][:first]:
            rows[name].append(workers[name].step())
            took = rows[name][-1]["wall_ms"]
            print(f"{task}, round {number + 1}: {name} {took:.0f} ms", file=sys.stderr, flush=True)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, help="work folder")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[*TASKS])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    for hidden in ("--worker", "--prepare", "--roof"):
        parser.add_argument(hidden, nargs="+", help=argparse.SUPPRESS)
    return parser


def _inner(given: argparse.Namespace) -> bool:
    """What the program asks of itself."""
    if given.worker:
        name, folder, sizes, task = given.worker
        work(name, Path(folder), _SIZES[sizes], task)
    elif given.prepare:
        from cpu_workers import prepare

        folder, model, sizes, *wanted = given.prepare
        print(json.dumps(prepare(Path(folder), model, _SIZES[sizes], set(wanted))))
    elif given.roof:
        from cpu_roof import measure

        small = given.roof[0] == TINY.name
        print(json.dumps(measure(256, 16, 0.05) if small else measure(2048, 512, 1.0)))
    else:
        return False
    return True


def main() -> None:
    parser = _parser()
    given = parser.parse_args()
    if _inner(given):
        return
    if given.table:
        cpu_table.write()
        return
    if given.output is None:
        parser.error("-o is missing: the folder to work in")
    rounds = 2 if given.quick else given.rounds
    variants = list(dict.fromkeys([REFERENCE, *given.variants]))
    record = run(given.output, TINY if given.quick else BASE, given.tasks, variants, rounds)
    write_json(given.output / "cpu-inference.json", record)
    print(cpu_table.tables(record), end="")


if __name__ == "__main__":
    main()
