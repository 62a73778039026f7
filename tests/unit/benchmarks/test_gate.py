"""What is slower than before does not pass, and neither does what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from blip_edge.benchmarks.gate import gate, read_records
from blip_edge.errors import ArtifactError, ToleranceError, UsageError


def record(p50: float | None, **changes: Any) -> Any:
    return {
        "schema_version": 2,
        "name": "onnx",
        "target": "onnx",
        "precision": "int8",
        "where": "local",
        "device": {"cpu": "EPYC"},
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
    with pytest.raises(UsageError, match="no time of student on local"):
        gate([record(1.0, name="student")], old, slower=1.05)
    with pytest.raises(UsageError, match="--slower"):
        gate([record(1.0)], old, slower=0.0)
    for text in ("{}", "[1]", '[{"schema_version": 9}]', "no json"):
        other = tmp_path / "other.json"
        other.write_text(text)
        with pytest.raises(ArtifactError):
            read_records(other)
