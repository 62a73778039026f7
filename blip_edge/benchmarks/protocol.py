"""How a bundle is timed: the protocol, for the processor of this machine.

The unit is what a user waits for: one picture, from its file to its caption. Each bundle lives in
a process of its own with its threads fixed; opening it, its first caption and the warm ones are
told apart. Several bundles take turns in short bursts, forth and back, so that a noisy neighbour
or a hot processor falls on all of them and their ratio stays fair.

    records = bench([Path("onnx"), Path("openvino")], recipe=BenchRecipe())
    save(records, Path("latency.json"))
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from blip_edge.artifact import inside, read_json, write_json
from blip_edge.benchmarks.machine import cores, machine
from blip_edge.benchmarks.records import BenchRecipe, Record
from blip_edge.benchmarks.rows import Timed, bundle_facts, make_record, note_latency
from blip_edge.benchmarks.workers import Sample, Worker, WorkerProcess
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.progress import SILENT, Progress

__all__ = ["bench", "save"]

_SIMULATED = (
    "simulated on this machine: the graph's numbers are checked here, its speed is not; "
    "bench it on macOS or iOS"
)


def bench(
    bundles: Sequence[Path],
    *,
    recipe: BenchRecipe | None = None,
    images: Sequence[Path] | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> list[Record]:
    """Time bundles side by side; each record is also noted in its bundle's manifest.

    Args:
        bundles: folders that `export` wrote.
        recipe: how long to measure; by default `BenchRecipe()`.
        images: the pictures to caption; by default the first bundle's golden ones.
        threads: of the engine; by default the cores that this process may use.

    Raises:
        ArtifactError: a folder is no bundle or was tampered with, or a picture cannot be read.
        MissingExtraError: the engine of a bundle is not installed.
        UsageError: no bundles, the same one twice, or fewer than one thread.
    """
    folders = [Path(bundle) for bundle in bundles]
    _check(folders, threads)
    asked = recipe if recipe is not None else BenchRecipe()
    facts = [bundle_facts(folder) for folder in folders]
    pictures = _pictures(folders[0], images, asked.images)
    threads = threads if threads is not None else cores()
    progress.say(f"measuring this machine, then {len(folders)} bundles with {threads} threads")
    device = machine(measure=True)
    timed = _time(folders, pictures, asked, threads, progress)
    records = [
        make_record(
            fact, result, asked, device=device, threads=threads, images=pictures, order=folders
        )
        for fact, result in zip(facts, timed, strict=True)
    ]
    for folder, record in zip(folders, records, strict=True):
        try:
            note_latency(folder, record)
        except OSError as error:  # a bundle on a read-only disk can still be timed
            record["notes"].append(f"not noted in the bundle: {error.strerror or error}")
    return records


def save(records: Sequence[Record], path: Path) -> None:
    """Write records, raw samples included, as one JSON list.

    Raises:
        ArtifactError: `path` cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_json(path, list(records))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error.strerror or error}") from None


def _check(folders: Sequence[Path], threads: int | None) -> None:
    if not folders:
        raise UsageError("there is nothing to time; give at least one bundle")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("a bundle is given twice; each one is timed once")
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")


def _pictures(bundle: Path, images: Sequence[Path] | None, limit: int) -> list[Path]:
    """The given pictures, or those that the bundle carries for its own verification."""
    if images is not None:
        found = [Path(image) for image in images]
    else:
        golden = bundle / "golden"
        try:
            rows = read_json(golden / "golden.json")
            found = [inside(golden, row["images"][0]) for row in rows]
        except (TypeError, KeyError, IndexError):
            raise ArtifactError(f"{golden / 'golden.json'} does not list pictures") from None
    for path in found:
        if not path.is_file():
            raise ArtifactError(f"{path}: there is no such picture")
    if not found:
        raise ArtifactError(f"{bundle} has no golden pictures; give pictures to caption")
    return found[:limit]


def _time(
    folders: Sequence[Path],
    pictures: Sequence[Path],
    recipe: BenchRecipe,
    threads: int,
    progress: Progress,
) -> list[Timed]:
    results = [Timed() for _ in folders]
    names = [str(picture) for picture in pictures]
    with ExitStack() as stack:
        workers: list[Worker | None] = []
        for folder, result in zip(folders, results, strict=True):
            worker = _load(folder, threads, recipe.loads, names[0], result, progress)
            workers.append(worker)
            if worker is not None:
                stack.callback(worker.kill)
        live = [
            Turn(worker=worker, samples=result.samples)
            for worker, result in zip(workers, results, strict=True)
            if worker is not None
        ]
        take_turns(live, names, recipe, progress)
        for worker, result in zip(workers, results, strict=True):
            result.peak_memory_bytes = None if worker is None else worker.stop()
    return results


def _load(
    folder: Path, threads: int, loads: int, image: str, result: Timed, progress: Progress
) -> Worker | None:
    """Open `folder` in `loads` fresh processes; the last one lives on, unless it only simulates."""
    for turn in progress.track(range(loads), f"loading {folder.name}", total=loads):
        worker = WorkerProcess(folder, threads)
        try:
            if worker.greeting["simulated"]:
                result.notes.append(_SIMULATED)
                worker.kill()
                return None
            result.load_ms.append(worker.greeting["load_ms"])
            result.first_ms.append(worker.run([image])[0]["total_ms"])
            if turn < loads - 1:
                worker.stop()
        except BaseException:
            worker.kill()
            raise
    return worker


@dataclass
class Turn:
    """One worker in the round, and what it has delivered."""

    worker: Worker
    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0

    def done(self, recipe: BenchRecipe) -> bool:
        """Whether this bundle has been timed long enough."""
        enough = len(self.samples) >= recipe.runs and self.seconds >= recipe.seconds
        return bool(self.samples) and (enough or self.seconds >= recipe.max_seconds)


def take_turns(
    turns: Sequence[Turn], images: Sequence[str], recipe: BenchRecipe, progress: Progress = SILENT
) -> None:
    """Warm all workers up, then let them caption bursts in turn until each has been timed enough.

    Every round gives the same pictures to everybody, and every second round runs backwards, so
    that nobody always follows the same neighbour. All keep running until the last one is done:
    a bundle that is timed alone at the end would meet a quieter machine.
    """
    for start in range(0, recipe.warmup, recipe.burst):
        count = min(recipe.burst, recipe.warmup - start)
        for turn in turns:
            turn.worker.run(_slice(images, start, count))
    rounds = _Rounds(turns, recipe)
    for number in progress.track(rounds, "timing", total=rounds.expected):
        burst = _slice(images, number * recipe.burst, recipe.burst)
        for turn in turns if number % 2 == 0 else reversed(turns):
            started = perf_counter()
            samples = turn.worker.run(burst)
            turn.seconds += perf_counter() - started
            indices = range(number * recipe.burst, (number + 1) * recipe.burst)
            turn.samples += [
                sample | {"image": index % len(images)}
                for sample, index in zip(samples, indices, strict=True)
            ]


class _Rounds:
    """Round numbers from 0 until every turn is done."""

    def __init__(self, turns: Sequence[Turn], recipe: BenchRecipe) -> None:
        self._turns, self._recipe = turns, recipe
        self.expected = -(-recipe.runs // recipe.burst)

    def __iter__(self) -> Any:
        number = 0
        while not all(turn.done(self._recipe) for turn in self._turns):
            yield number
            number += 1


def _slice(images: Sequence[str], start: int, count: int) -> list[str]:
    return [images[index % len(images)] for index in range(start, start + count)]
