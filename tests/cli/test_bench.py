"""`bench` as a user types it; what is timed is a bundle of toy graphs."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import Run

pytest.importorskip("onnx")

QUICK = (
    *("--set", "runs=2", "--set", "warmup=0", "--set", "seconds=0", "--set", "loads=1"),
    *("--set", "burst=1", "--threads", "1"),
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    from tests.unit.benchmarks.toy_bundle import write_toy

    return write_toy(tmp_path / "toy")


@pytest.fixture(autouse=True)
def _no_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the machine takes two seconds, and is tested elsewhere."""
    from blip_edge.benchmarks import Peaks, protocol

    # The package gives a function under the module's name.
    room = sys.modules["blip_edge.benchmarks.machine"]
    monkeypatch.setattr(room, "peaks", lambda: Peaks(gemm_gflops=1.0, copy_gb_per_s=1.0))
    monkeypatch.setattr(protocol, "gemm_gflops", lambda: 1.0)


def test_a_gate_lets_pass_keeps_out_and_keeps_the_record(
    run: Run, bundle: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    code, out, _ = run("bench", bundle, *QUICK, "-o", first, "--json")
    assert code == 0
    assert json.loads(out)[0]["p50_ms"] > 0
    again = ("bench", bundle, *QUICK, "--gate", first, "--json")
    assert run(*again, "--slower", 1e6)[0] == 0
    code, out, err = run(*again, "--slower", 1e-6, "-o", second)
    assert (code, out) == (5, "")
    assert err.startswith("error: toy takes") and err.count("\n") == 1
    assert not second.exists()
    [kept] = json.loads((tmp_path / "second.json.rejected").read_text())
    assert kept["name"] == "toy"


def test_what_is_known_beforehand_costs_no_measurement(
    run: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first.json"
    assert run("bench", bundle, *QUICK, "-o", first)[0] == 0
    records = json.loads(first.read_text())
    (tmp_path / "other.json").write_text(json.dumps([records[0] | {"name": "another"}]))
    (tmp_path / "folder").mkdir()

    def measured(*_: object, **__: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr("blip_edge.benchmarks.measuring.measure", measured)
    for flags, code, words in (
        (("--gate", first, "--slower", 0), 2, "--slower"),
        (("--gate", tmp_path / "other.json"), 2, "no time of toy"),
        (("-o", tmp_path / "folder", "--force"), 3, "is a folder"),
        (("-o", first / "b.json"), 3, "cannot be written"),
    ):
        got, out, err = run("bench", bundle, *QUICK, *flags)
        assert (got, out) == (code, ""), err
        assert words in err and err.count("\n") == 1


def test_rivals_are_compared(run: Run, bundle: Path, tmp_path: Path) -> None:
    rival = tmp_path / "rival"
    shutil.copytree(bundle, rival)
    code, out, _ = run("bench", bundle, rival, *QUICK, "--compare")
    assert code == 0
    head, first, second = out.splitlines()
    assert "times as slow" in head
    assert first.split()[-1] == "1"
    assert " to " in second


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--mode", "quick", "--recipe", "normal"), "--mode"),
        (("--slower", "1.1"), "--gate"),
        (("--compare",), "at least two"),
        (("--lan",), "browser"),
        (("--device", "brwoser"), "did you mean 'browser'"),
        (("--device", "local:3"), "no device"),
        (("--mode", "quik"), "--mode"),
        (("--device", "browser", "--quiet"), "address"),
        (("--device", "ssh:-oProxyCommand=x"), "no address"),
        (("--device", "adb"), "serial"),
        (("--web-backend", "webgpu", "--device", "ssh:pi"), "for a browser"),
    ],
)
def test_what_makes_no_sense_is_refused(
    run: Run, bundle: Path, flags: tuple[str, ...], words: str
) -> None:
    code, out, err = run("bench", bundle, *flags)
    assert (code, out) == (2, "")
    assert words in err


def test_records_become_a_page_that_says_what_is_worse(
    run: Run, bundle: Path, tmp_path: Path
) -> None:
    records, old, page = tmp_path / "now.json", tmp_path / "old.json", tmp_path / "page.html"
    assert run("bench", bundle, *QUICK, "-o", records, "--quiet")[0] == 0
    rows = json.loads(records.read_text())
    old.write_text(json.dumps([{**rows[0], "p50_ms": rows[0]["p50_ms"] / 3}]))
    code, out, err = run("report", records, "--against", old, "-o", page, "--quiet")
    assert (code, out.strip(), err) == (0, str(page), "")
    assert "Against old.json: 1 of 2 worse" in page.read_text()
    code, _, err = run("report", records, "--against", tmp_path / "none", "-o", page, "--force")
    assert code == 3
    assert "none is missing" in err


def test_a_profile_is_a_table_and_in_the_record(run: Run, bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    code, out, _ = run("bench", bundle, *QUICK, "--profile", "-o", output)
    assert code == 0
    first, second = out.split("\n\n")
    assert "p50 ms" in first
    assert second.splitlines()[0].split() == [
        "toy",
        *["operator", "type", "calls", "ms", "share", "where"],
    ]
    assert "MatMul" in second
    [record] = json.loads(output.read_text())
    assert {row["graph"] for row in record["operators"]} == {"vision", "decoder"}
