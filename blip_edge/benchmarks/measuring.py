"""From bundles to records: what `bench` does, on whichever device.

records = bench([Path("onnx"), Path("openvino")], recipe=BenchRecipe())
save(records, Path("latency.json"))
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from blip_edge.artifact import inside, read_json, write_json
from blip_edge.benchmarks.devices.device import Device, measure
from blip_edge.benchmarks.devices.local import LocalDevice
from blip_edge.benchmarks.job import Job
from blip_edge.benchmarks.records import BenchRecipe, Record
from blip_edge.benchmarks.rows import bundle_facts, make_record, note_latency
from blip_edge.benchmarks.stats import interleaved_ratio
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.progress import SILENT, Progress

__all__ = ["bench", "save"]


def bench(
    bundles: Sequence[Path],
    *,
    device: Device | None = None,
    recipe: BenchRecipe | None = None,
    images: Sequence[Path] | None = None,
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
        images: the pictures to caption; by default the first bundle's golden ones.
        threads: of the engine; by default the cores that it may use.
        compare: say of each bundle but the first how its median stands to the first one's.
        profile: tell which operators take the time, where the engine does.

    Raises:
        ArtifactError: a folder is no bundle or was tampered with, a picture cannot be read, or the
            device is not there.
        MissingExtraError: the engine of a bundle, or what the device takes, is not installed.
        UsageError: no bundles, the same one twice, one alone to compare, fewer than one thread, or
            a bundle for another kind of device.
    """
    folders = [Path(bundle) for bundle in bundles]
    _check(folders, threads, compare)
    how = recipe if recipe is not None else BenchRecipe()
    facts = [bundle_facts(folder) for folder in folders]
    pictures = _pictures(folders[0], images, how.images)
    job = Job(
        bundles=tuple(folders),
        images=tuple(pictures),
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
