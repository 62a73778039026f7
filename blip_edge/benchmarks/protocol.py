"""How a bundle is timed: the protocol, for the processor of the machine that it runs on.

The unit is what a user waits for: from the picture's file to its caption, to the answer of a
question about it, to how well a text fits it, to whether a sentence is true of two. Each bundle
lives in a process of its own with its threads fixed; opening it, its first answer and the warm ones
are told apart. Several bundles take turns in short bursts, forth and back, so that a noisy
neighbour or a hot processor falls on all of them and their ratio stays fair.

What is measured is told as it happens (`job`), because whoever asked may be on another machine.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic, perf_counter, sleep
from typing import Any

from blip_edge.benchmarks.energy import Meter, metered
from blip_edge.benchmarks.job import Job, Sample, Tell
from blip_edge.benchmarks.load_guard import LoadGuard
from blip_edge.benchmarks.machine import Machine, cores, gemm_gflops, machine
from blip_edge.benchmarks.records import BenchRecipe
from blip_edge.benchmarks.workers import Worker, WorkerProcess
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.manifest import read_manifest

__all__ = ["Turn", "take_turns", "time_bundles"]

_SIMULATED = (
    "simulated on this machine: the graph's numbers are checked here, its speed is not; "
    "bench it on macOS or iOS"
)


def time_bundles(job: Job, tell: Tell, progress: Progress = SILENT) -> None:
    """Time the bundles of `job` on this machine, and tell what is found.

    Raises:
        ArtifactError: a folder is no bundle or was tampered with, or a picture cannot be read.
        MissingExtraError: the engine of a bundle is not installed.
    """
    threads = job.threads if job.threads is not None else cores()
    progress.say(f"measuring the machine, then {job.counted()} on {threads} threads")
    device = machine(measure=True)
    tell({"device": device.to_json(), "threads": threads})
    with ExitStack() as stack:
        turns = []
        for number in range(len(job.bundles)):
            worker = _load(job, number, threads, tell, progress)
            if worker is not None:
                stack.callback(worker.kill)
                turns.append(Turn(worker=worker, tell=_teller(tell, number), number=number))
        if job.recipe.cooldown:
            progress.say(f"resting for {job.recipe.cooldown:g} seconds")
            sleep(job.recipe.cooldown)
        guard = LoadGuard()
        take_turns(turns, job.asked, job.recipe, progress)
        tell({"others": guard.others(), "gemm_slowdown": _slowdown(device)})
        for turn in turns:
            if turn.joules is not None:
                tell({"bundle": turn.number, "joules": round(turn.joules, 6)})
            tell({"bundle": turn.number, "peak_memory_bytes": turn.worker.stop()})
    if job.profile:
        _profile(job, [turn.number for turn in turns], threads, tell, progress)
    tell({"done": True})


def _profile(
    job: Job, numbers: Sequence[int], threads: int, tell: Tell, progress: Progress
) -> None:
    """In a process of its own what each engine reaches at its best, and a profiled burst."""
    burst = _slice(job.asked, 0, job.recipe.burst)
    for number in numbers:
        progress.say(f"profiling {job.bundles[number].name}")
        worker = WorkerProcess(job.bundles[number], threads, job.task)
        try:
            calibration = worker.calibrate(read_manifest(job.bundles[number], check=False).target)
            if calibration is not None:
                tell({"bundle": number, "calibration": calibration})
            operators = worker.profile(burst)
            if operators is not None:
                tell({"bundle": number, "operators": operators})
        finally:
            worker.kill()


def _teller(tell: Tell, number: int) -> Callable[[list[Sample]], None]:
    return lambda samples: tell({"bundle": number, "samples": samples})


def _slowdown(before: Machine) -> float | None:
    """The rate of matrix products before, over the one now."""
    if before.peaks is None:
        return None
    return round(before.peaks.gemm_gflops / gemm_gflops(), 4)


def _load(job: Job, number: int, threads: int, tell: Tell, progress: Progress) -> Worker | None:
    """Open a bundle in several fresh processes; the last lives on, unless it only simulates."""
    folder, loads = job.bundles[number], job.recipe.loads
    for turn in progress.track(range(loads), f"loading {folder.name}", total=loads):
        worker = WorkerProcess(folder, threads, job.task)
        try:
            if worker.greeting["simulated"]:
                tell({"bundle": number, "note": _SIMULATED})
                worker.kill()
                return None
            first = worker.run(job.asked[:1])[0]["total_ms"]
            tell({"bundle": number, "load_ms": worker.greeting["load_ms"], "first_ms": first})
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
    joules: float | None = 0.0
    """That the machine took meanwhile; None where its system does not tell."""
    number: int = 0
    """Of its bundle in the job."""
    tell: Callable[[list[Sample]], None] = lambda samples: None
    """Is told of every burst."""

    def done(self, recipe: BenchRecipe) -> bool:
        """Whether this bundle has been timed long enough."""
        enough = len(self.samples) >= recipe.runs and self.seconds >= recipe.seconds
        return bool(self.samples) and (enough or self.seconds >= recipe.max_seconds)

    def add_joules(self, spent: float | None) -> None:
        """Add what a burst took; one that is not known leaves the whole unknown."""
        if self.joules is not None:
            self.joules = None if spent is None else self.joules + spent


def take_turns(
    turns: Sequence[Turn], asked: Sequence[Asked], recipe: BenchRecipe, progress: Progress = SILENT
) -> None:
    """Warm all workers up, then ask them bursts in turn until each has been timed enough.

    Every round asks everybody the same, and every second round runs backwards, so
    that nobody always follows the same neighbour. All keep running until the last one is done:
    a bundle that is timed alone at the end would meet a quieter machine.
    """
    for start in range(0, recipe.warmup, recipe.burst):
        count = min(recipe.burst, recipe.warmup - start)
        for turn in turns:
            turn.worker.run(_slice(asked, start, count))
    rounds, began = _Rounds(turns, recipe), monotonic()
    with metered() as meter:
        for number in progress.track(rounds, "timing", total=rounds.expected):
            burst = _slice(asked, number * recipe.burst, recipe.burst)
            for turn in turns if number % 2 == 0 else reversed(turns):
                samples = _metered_burst(turn, burst, meter)
                indices = range(number * recipe.burst, (number + 1) * recipe.burst)
                at = round(monotonic() - began, 3)
                told = [
                    sample | {"image": index % len(asked), "at_s": at}
                    for sample, index in zip(samples, indices, strict=True)
                ]
                turn.samples += told
                turn.tell(told)


def _metered_burst(turn: Turn, burst: Sequence[Asked], meter: Meter) -> list[Sample]:
    """One turn's answers; what they took is added to it."""
    meter.lap()
    started = perf_counter()
    samples = turn.worker.run(burst)
    turn.seconds += perf_counter() - started
    turn.add_joules(meter.lap())
    return samples


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


def _slice(asked: Sequence[Asked], start: int, count: int) -> list[Asked]:
    return [asked[index % len(asked)] for index in range(start, start + count)]
