"""The race on CPU: its page says what its record says, and a tiny model goes through all of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.project.test_readme_numbers import ROOT, program_of

PROGRAM = ROOT / "benchmarks" / "cpu_inference.py"


@pytest.mark.parametrize("name", ["cpu-inference", "two-runtimes"])
def test_the_page_says_what_the_record_says(name: str) -> None:
    table = program_of("cpu_table")
    page = table.PAGE.read_text(encoding="utf-8")
    assert f"<!-- {name}: " in page and f"<!-- /{name} -->" in page
    record = json.loads(table.RECORDS[name].read_text(encoding="utf-8"))
    assert table.with_tables(page, name, record) == page
    assert record["settings"]["rounds"] >= 7


def test_the_readme_says_what_the_records_say() -> None:
    table = program_of("cpu_table")
    front = table.FRONT.read_text(encoding="utf-8")
    assert "<!-- speed: " in front and "<!-- /speed -->" in front
    assert table.with_fastest(front, [*table.records().values()]) == front


def test_beside_the_speed_stands_how_well_eight_bits_say_the_same() -> None:
    table = program_of("cpu_table")
    records = table.records()
    said = table.fastest([*records.values()])
    mixed = records["two-runtimes"]["tasks"]["caption-beams"]["variants"]["mixed-int8"]
    same = mixed["agreement"]["same_tokens"]
    assert f"{mixed['p50_ms']:.0f} (" in said and f", {same} of 20 (caption, 3 beams)" in said
    assert "weights are random" in said
    assert "one race timed caption and answer, another match and embed" in said


@pytest.mark.slow
def test_a_tiny_model_goes_through_the_whole_program(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("onnxscript")
    argv = ["-o", tmp_path, "--quick", "--tasks", "caption-greedy", "matching"]
    argv += ["--variants", "plain-onnx", "onnx-fp32"]
    subprocess.run([sys.executable, PROGRAM, *map(str, argv)], check=True, capture_output=True)
    record = json.loads((tmp_path / "cpu-inference.json").read_text(encoding="utf-8"))
    said, read = (record["tasks"][task]["variants"] for task in ("caption-greedy", "matching"))
    assert list(said) == ["hf-fp32", "plain-onnx", "onnx-fp32"]
    assert said["onnx-fp32"]["agreement"]["same_tokens"] == 20
    assert said["onnx-fp32"]["agreement"]["forced_psnr_db"] > 80
    assert read["onnx-fp32"]["agreement"]["max_abs_diff"] < 1e-3
    stages = said["onnx-fp32"]["stages_p50_ms"]
    assert min(stages[stage] for stage in ("preprocess", "vision", "prefill", "steps")) > 0
    assert sum(stages.values()) == pytest.approx(said["onnx-fp32"]["p50_ms"], rel=0.3)


def _row(milliseconds: float) -> list[dict[str, Any]]:
    return [{"wall_ms": milliseconds, "cpu_ms": 2.0, "peak_bytes": 3, "stages": {}}] * 3


def _check(answer: Any) -> dict[str, Any]:
    return {"answer": answer, "file_bytes": 4, "forced": None}


def test_a_goal_is_judged_by_the_fastest_of_ours_in_its_precision() -> None:
    record = program_of("cpu_record")
    rows = {"hf-fp32": _row(60.0), "onnx-int8": _row(20.0), "openvino-int8": _row(12.0)}
    checks = {name: _check(["one", "two"]) for name in rows}
    missing = {"onnx-fp32": record.unmeasured("no such export")}
    same = {name: record.agreement(name, checks) for name in rows}
    floors = {"fp32": 6.0, "bf16": 3.0, "int8": 3.0}
    found = record.race_of("caption-greedy", checks, same, rows, missing, floors)
    assert found["goals"]["int8"] == {
        "least": 5.0,
        "times": 5.0,
        "by": "openvino-int8",
        "reached": True,
    }
    assert found["goals"]["fp32"] == {"least": 1.7, "times": None, "reached": None}
    assert found["variants"]["onnx-int8"]["roof_share"] == 0.15
    assert found["variants"]["onnx-fp32"]["p50_ms"] is None
    assert found["variants"]["onnx-fp32"]["why"] == "not measured: no such export"


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (["one", "two"], ["one", "three"]),
        (["one", "two"], ["one"]),
        ([[0.5, 0.5]], [[0.5, 0.502]]),
        ([[0.5, 0.5]], [[0.5, float("nan")]]),
    ],
)
def test_ours_in_float_must_answer_as_the_reference(expected: Any, got: Any) -> None:
    record = program_of("cpu_record")
    checks = {"hf-fp32": _check(expected), "onnx-int8": _check(got), "onnx-fp32": _check(got)}
    record.agreement("onnx-int8", checks)
    with pytest.raises(SystemExit, match="onnx-fp32 does not compute what hf-fp32 does"):
        record.agreement("onnx-fp32", checks)


def test_floors_count_the_published_work_of_the_image_encoder() -> None:
    roof, tasks = program_of("cpu_roof"), program_of("cpu_tasks")
    # ViT-B/16 at 384 px: 111 GFLOP (55.5 billion multiplications and additions).
    assert roof._vision(tasks.BASE).operations == pytest.approx(111e9, rel=0.01)
    slow = {"gflops": {"fp32": 1e9}, "read_gb_per_s": 1.0}
    # Nothing but reading counts: layers' matrices, the words, and keys and values of a picture.
    step = 12 * 14 * 768**2 + 768 * 30524 + 2 * 577 * 768 * 12
    read = 20 * step + 86e6 + 24 * 768**2
    assert roof.floor_ms("caption-greedy", tasks.BASE, slow, "fp32") == pytest.approx(
        4e-6 * read, rel=0.01
    )


def test_an_error_beside_words_that_are_never_said_is_seen(tmp_path: Path) -> None:
    record = program_of("cpu_record")
    expected = np.zeros((4, 20), dtype=np.float32)
    expected[:, 9], expected[:, 3] = 10.0, -1000.0
    got = expected.copy()
    got[:, 8] = 1.0
    found = record._forced(expected, got)
    assert found == {
        "forced_psnr_db": pytest.approx(10 * np.log10(100 * 13), abs=0.01),
        "forced": 4,
        "forced_same": 4,
    }
