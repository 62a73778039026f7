"""Packages side by side: what was made is not made again, and who takes too long is told so."""

import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SAID = {"items": 20, "metrics": {"truth": 0.9}, "intervals": {"truth": [0.75, 1.0]}}
LATE = "onnxruntime"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("quantizers")


@pytest.fixture
def asked(program: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The verbs and programs that are run, which leave what the real ones would."""
    words_of: list[list[str]] = []

    def made(folder: Path, words: list[str]) -> None:
        words_of.append(words)
        output = folder / words[words.index("-o") + 1] if "-o" in words else None
        if output is not None:
            output.mkdir()
            (output / "provenance.json").write_text('{"seconds": 12.34}')
            (output / "manifest.json").write_text('{"graphs": {"vision": {"bytes": 2500000}}}')

    def verb(folder: Path, words: list[str]) -> str:
        made(folder, words)
        return json.dumps(SAID)

    def timed(words: list[str], *, cwd: Path, timeout: float, **_: Any) -> Any:
        if LATE in words:
            raise subprocess.TimeoutExpired(words, timeout)
        made(cwd, words)
        return subprocess.CompletedProcess(words, 0, 'noise\n{"seconds": 5.5, "samples": 8}\n')

    monkeypatch.setattr(program, "blip_edge", verb)
    monkeypatch.setattr(program.subprocess, "run", timed)
    return words_of


def test_rows_are_made_once_and_a_late_one_is_told(
    program: Any, asked: list[list[str]], tmp_path: Path
) -> None:
    bench = program.Bench(tmp_path, samples=8, budget=60.0, limit=None)
    for row in program.ROWS:
        bench.complete(row)
    models = [words for words in asked if "quantize" in words]
    assert len(models) == 5, "one of ours for both runtimes"
    assert all("samples=8" in words for words in models)
    before = len(asked)
    for row in program.ROWS:
        bench.complete(row)
    assert len(asked) == before
    found = program.record(bench, samples=8, budget=60.0)
    assert found["rows"]["ort-own"] == {"refused": "over the budget of 60 s"}
    text = program.with_table("", found, program.ROWS)
    assert "| onnxruntime, its graphs | ONNX Runtime | refused (over the budget of 60 s) |" in text
    assert "| NNCF, its graphs | OpenVINO | 90.0 (75.0 to 100.0) | 2.50 | 6 |" in text
    assert "| blip-edge | OpenVINO | 90.0 (75.0 to 100.0) | 2.50 | 12 |" in text


def test_what_was_tried_on_a_few_pictures_is_no_record(
    program: Any, asked: list[list[str]], tmp_path: Path
) -> None:
    bench = program.Bench(tmp_path, samples=8, budget=60.0, limit=20)
    bench.complete(program.ROWS[0])
    assert asked[-1][-2:] == ["--limit", "20"]
    whole = program.Bench(tmp_path, samples=8, budget=60.0, limit=None)
    assert program.record(whole, samples=8, budget=60.0)["rows"] == {}
