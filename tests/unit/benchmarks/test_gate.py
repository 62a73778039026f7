"""What is slower than before does not pass, and neither does what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from blip_edge.benchmarks.gate import gate, read_records, require_comparable
from blip_edge.errors import ArtifactError, ToleranceError, UsageError


def record(p50: float | None, **changes: Any) -> Any:
    return {
        "schema_version": 2,
        "name": "onnx",
        "target": "onnx",
        "precision": "int8",
        "where": "local",
        "device": {"cpu": "EPYC"},
        "settings": {"threads": 2, "task": "caption", "decode": {"num_beams": 3}},
        "p50_ms": p50,
        "complete": True,
        "noisy": False,
        **changes,
    }


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.json"
    first = record(10.0, schema_version=1)
    del first["where"]  # version 1 knew this machine alone
    path.write_text(json.dumps([record(99.0, where="ssh:pi"), record(8.0), first]))
    return path


def test_the_last_row_of_the_same_bundle_and_device_counts(old: Path) -> None:
    assert gate([record(10.4)], old, slower=1.05) == []
    assert gate([record(101.0, where="ssh:pi")], old, slower=1.05) == []
    with pytest.raises(ToleranceError, match=r"10\.6 ms, 1\.06 times the 10\.0 ms") as worse:
        gate([record(10.6)], old, slower=1.05)
    assert "busy" not in str(worse.value)
    with pytest.raises(ToleranceError, match="kept the machine busy"):
        gate([record(10.6, noisy=True)], old, slower=1.05)


def test_another_processor_is_said(old: Path) -> None:
    [note] = gate([record(9.0, device={"cpu": "Cortex-A76"})], old, slower=1.05)
    assert "EPYC" in note


def test_half_a_measurement_does_not_pass(old: Path) -> None:
    for half in (record(1.0, complete=False), record(None)):
        with pytest.raises(ToleranceError, match="not measured to the end"):
            gate([half], old, slower=1.05)


def test_what_cannot_be_compared_is_refused(old: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no time of a caption of student on local"):
        gate([record(1.0, name="student")], old, slower=1.05)
    with pytest.raises(UsageError, match="no time of an answer of onnx"):
        gate([record(1.0, settings={"task": "vqa"})], old, slower=1.05)
    damaged = (
        "{}",
        "[1]",
        '[{"schema_version": 9}]',
        "no json",
        '[{"schema_version": 2, "p50_ms": "fast"}]',
        '[{"schema_version": 2, "device": [1]}]',
    )
    for text in damaged:
        other = tmp_path / "other.json"
        other.write_text(text)
        with pytest.raises(ArtifactError):
            read_records(other)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"threads": 1}, "threads 2, now 1"),
        ({"decode": {"num_beams": 1}}, r"decode \{'num_beams': 3\}, now \{'num_beams': 1\}"),
    ],
)
def test_what_was_timed_otherwise_does_not_pass(
    old: Path, changed: dict[str, Any], words: str
) -> None:
    now = record(1.0, settings=record(1.0)["settings"] | changed)
    with pytest.raises(ToleranceError, match=words):
        gate([now], old, slower=1e9)


def test_the_row_with_the_same_threads_counts(tmp_path: Path) -> None:
    """A file may hold a bundle's times with one thread and with two."""
    path = tmp_path / "old.json"
    one = record(1.0)["settings"] | {"threads": 1}
    path.write_text(json.dumps([record(10.0), record(20.0, settings=one)]))
    assert gate([record(10.0), record(20.0, settings=one)], path, slower=1.05) == []
    with pytest.raises(ToleranceError, match=r"1\.20 times the 10\.0 ms"):
        gate([record(12.0)], path, slower=1.05)


def test_other_pictures_are_said(old: Path) -> None:
    now = record(9.0, settings=record(1.0)["settings"] | {"image_files": ["a.png"]})
    assert gate([now], old, slower=1.05) == ["onnx was asked about other pictures before"]


def test_what_a_device_did_not_tell_is_not_held_against_it(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps([record(10.0, device=None, settings=None)]))
    [note] = gate([record(9.0)], path, slower=1.05)
    assert "another processor" in note


def test_nothing_is_measured_that_could_not_be_compared(old: Path, tmp_path: Path) -> None:
    here = [tmp_path / "onnx"]
    require_comparable(old, here, "local", slower=1.05)
    for bundles, where, words in (
        ([*here, tmp_path / "student"], "local", "no time of student on local"),
        (here, "browser", "no time of onnx on browser"),
    ):
        with pytest.raises(UsageError, match=words):
            require_comparable(old, bundles, where, slower=1.05)
    for never in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="--slower"):
            require_comparable(old, here, "local", slower=never)
