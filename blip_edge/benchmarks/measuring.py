"""From bundles to records: what `bench` does, on whichever device.

records = bench([Path("onnx"), Path("openvino")], recipe=BenchRecipe())
save(records, Path("latency.json"))
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from blip_edge.artifact import inside, read_json, write_json
from blip_edge.benchmarks.devices.device import Device, measure
from blip_edge.benchmarks.devices.local import LocalDevice
from blip_edge.benchmarks.job import Job
from blip_edge.benchmarks.records import BenchRecipe, Record
from blip_edge.benchmarks.rows import BundleFacts, bundle_facts, make_record, note_latency
from blip_edge.benchmarks.stats import interleaved_ratio
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.engine import Task

__all__ = ["bench", "common_task", "save"]


def bench(
    bundles: Sequence[Path],
    *,
    device: Device | None = None,
    recipe: BenchRecipe | None = None,
    task: Task | None = None,
    asked: Sequence[Asked] | None = None,
    threads: int | None = None,
    compare: bool = False,
    profile: bool = False,
    progress: Progress = SILENT,
) -> list[Record]:
    """Time bundles side by side; each record is also noted in its bundle's manifest.

    Args:
        bundles: folders that `export` wrote.
        device: what they are timed on; by default this machine.
        recipe: how long to measure; by default `BenchRecipe()`.
        task: what they are asked to do; by default the first that all of them were trained for.
        asked: what they are asked, its pictures as files; by default what the first bundle's golden
            folder holds. A picture is compared with the first of its texts.
        threads: of the engine; by default the cores that it may use.
        compare: say of each bundle but the first how its median stands to the first one's.
        profile: tell which operators take the time, where the engine does.

    Raises:
        ArtifactError: a folder is no bundle or was tampered with, a picture cannot be read, or the
            device is not there.
        MissingExtraError: the engine of a bundle, or what the device takes, is not installed.
        UsageError: no bundles, the same one twice, one alone to compare, fewer than one thread, or
            a bundle for another kind of device or another task.
    """
    folders = [Path(bundle) for bundle in bundles]
    _check(folders, threads, compare)
    how = recipe if recipe is not None else BenchRecipe()
    facts = [bundle_facts(folder) for folder in folders]
    task = common_task(facts, task)
    job = Job(
        bundles=tuple(folders),
        task=task,
        asked=tuple(_asked(folders[0], task, asked)[: how.images]),
        recipe=how,
        threads=threads,
        profile=profile,
    )
    measured = measure(device if device is not None else LocalDevice(), job, facts, progress)
    records = [make_record(fact, measured, number, job) for number, fact in enumerate(facts)]
    if compare:
        _compare(records, how.burst)
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


def _check(folders: Sequence[Path], threads: int | None, compare: bool) -> None:
    if not folders:
        raise UsageError("there is nothing to time; give at least one bundle")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("a bundle is given twice; each one is timed once")
    if compare and len(folders) < 2:
        raise UsageError("to compare takes at least two bundles")
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")


def _compare(records: Sequence[Record], burst: int) -> None:
    reference = records[0]
    before = reference["samples"].get("total_ms")
    for record in records[1:]:
        after = record["samples"].get("total_ms")
        if before and after:
            found = interleaved_ratio(before, after, block=burst)
            rounded = {name: round(value, 4) for name, value in asdict(found).items()}
            record["compared"] = {"with": reference["name"], **rounded}


def common_task(facts: Sequence[BundleFacts], task: Task | None = None) -> Task:
    """`task`, or the first one of the first bundle that all were trained for.

    Raises:
        UsageError: a bundle was not trained for it.
    """
    shared = [one for one in facts[0].tasks if all(one in fact.tasks for fact in facts)]
    if task is None and not shared:
        known = "; ".join(f"{fact.name}: {', '.join(fact.tasks)}" for fact in facts)
        raise UsageError(f"the bundles have no task in common ({known}); time them apart")
    chosen = task or shared[0]
    for fact in facts:
        if chosen not in fact.tasks:
            raise UsageError(f"{fact.name} was trained for {', '.join(fact.tasks)}, not {chosen}")
    return chosen


def _asked(bundle: Path, task: Task, asked: Sequence[Asked] | None) -> list[Asked]:
    """What is given, or what the bundle carries for its own verification."""
    found = _golden(bundle, task) if asked is None else list(asked)
    if not found:
        raise ArtifactError(f"{bundle} has no golden pictures for {task}; give a data set")
    for one in found:
        for image in one.images:
            if not Path(str(image)).is_file():
                raise ArtifactError(f"{image}: there is no such picture")
    return [replace(one, texts=one.texts[:1]) for one in found]


def _golden(bundle: Path, task: Task) -> list[Asked]:
    golden = bundle / "golden"
    try:
        return [
            Asked(tuple(inside(golden, name) for name in row["images"]), tuple(row["texts"]))
            for row in read_json(golden / "golden.json")
            if row["task"] == task
        ]
    except (TypeError, KeyError, AttributeError):
        raise ArtifactError(f"{golden / 'golden.json'} does not list pictures") from None
