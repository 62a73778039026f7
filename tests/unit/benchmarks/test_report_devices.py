"""Records of several devices on the page, and what has become worse."""

import json
from pathlib import Path
from typing import Any

import pytest

import tests.unit.benchmarks.test_report as pages
from blip_edge.artifact import write_json
from blip_edge.benchmarks.report import report_run
from blip_edge.errors import ArtifactError
from tests.unit.benchmarks.test_report import Page, make_run

REACHED = {"vision": {"share": 0.704}, "step": {"share": 0.5501}}


def record(where: str, p50: float | None, **changes: Any) -> dict[str, Any]:
    stages = {"preprocess_ms": 1.0, "vision_ms": 2.0, "decode_ms": 5.0}
    return {
        "schema_version": 2,
        "name": "onnx",
        "target": "onnx",
        "precision": "int8",
        "bytes": 1_000_000,
        "where": where,
        "device": {"cpu": "Cortex-A76"},
        "settings": {"decode": {"num_beams": 3}},
        "load_ms": [30.0, 20.0],
        "first_ms": [],
        "stats": {name: {"p50_ms": ms} for name, ms in stages.items()} if p50 else {},
        "p50_ms": p50,
        "p90_ms": p50,
        "complete": True,
        "noisy": False,
        "throttled": False,
        "notes": [],
        **changes,
    }


@pytest.fixture
def now(tmp_path: Path) -> Path:
    units = {"ALL": {"p50_ms": 3.5, "operators": {"NeuralEngine": 40, "CPU": 2}}}
    path = tmp_path / "now.json"
    rows = [
        record("local", 8.0, joules_per_caption=2.5, reached=REACHED),
        record("ssh:pi", 80.0, noisy=True, throttled=True, complete=False, notes=["<b>hot</b>"]),
        record("coreml:local", None, graphs={"vision": units}),
    ]
    path.write_text(json.dumps(rows))
    return path


def text_of(run: Path, tmp_path: Path, **how: Any) -> str:
    return report_run(run, tmp_path / "r.html", **how).read_text(encoding="utf-8")


def test_the_page_says_what_was_timed(tmp_path: Path) -> None:
    stats = {"preprocess_ms": 1.0, "vision_ms": 2.0, "read_ms": 4.0}
    match = record(
        "local",
        7.0,
        settings={"task": "retrieval", "decode": {"num_beams": 3}},
        stats={name: {"p50_ms": ms} for name, ms in stats.items()},
    )
    path = tmp_path / "match.json"
    path.write_text(json.dumps([match, record("browser", 9.0)]))
    html = text_of(path, tmp_path)
    words = Page(html).words()
    assert "onnx compares a picture with a text in 7.00 ms on local." in words
    assert "preprocess 1.00 ms, vision 2.00 ms, read 4.00 ms" in words
    assert "<td>a match</td>" in html and "<td>a caption</td>" in html
    assert html.count('<i class="decode"></i>') == 1


def test_a_records_file_is_a_page(now: Path, tmp_path: Path) -> None:
    html = text_of(now, tmp_path)
    pages.test_the_page_is_well_formed(html)
    words = Page(html).words()
    assert "onnx captions a picture in 8.00 ms on local." in words
    assert "onnx (onnx int8) local · Cortex-A76 3 8.00 8.00 20.0 1.00 2.50 70% · 55%" in words
    assert "1.00 – – incomplete noisy throttled" in words
    assert "preprocess 1.00 ms, vision 2.00 ms, decode 5.00 ms" in words
    assert "ALL 3.50 NeuralEngine 40 · CPU 2" in words
    assert "onnx (onnx int8): <b>hot</b>" in words, "what a device told is text, not markup"
    shares = [style for tag in Page(html).all("i") if (style := tag.get("style"))]
    assert shares[:3] == ["width: 12.5%", "width: 25.0%", "width: 62.5%"]


def test_devices_from_several_files_are_beside_each_other(now: Path, tmp_path: Path) -> None:
    phone = tmp_path / "phone.json"
    phone.write_text(json.dumps([record("browser", 4.0)]))
    page = report_run([now, make_run(tmp_path / "run"), phone], tmp_path / "r.html")
    html = page.read_text(encoding="utf-8")
    pages.test_the_page_is_well_formed(html)
    words = Page(html).words()
    assert len(Page(html).all("article")) == 2, "one of the run, one of all records"
    assert "now.json, phone.json onnx captions a picture in 4.00 ms on browser." in words


def test_a_runs_own_records_are_on_its_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    before = text_of(run, tmp_path)
    assert "Speed by device" not in before
    write_json(run / "bench.json", [record("local", 8.0)])
    html = text_of(run, tmp_path)
    pages.test_the_page_is_well_formed(html)
    assert "Speed by device" in html
    assert "1 of 3 goals missed" in html


def test_what_has_become_worse_is_marked(now: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps([record("local", 7.0), record("ssh:pi", 79.0, bytes=900_000)]))
    words = Page(text_of(now, tmp_path, against=old)).words()
    assert "Against old.json: 2 of 4 worse" in words
    assert "onnx (onnx int8) on local p50 ms 7.00 8.00 1.14 ✗ worse" in words
    assert "onnx (onnx int8) on ssh:pi p50 ms 79.0 80.0 1.01 ✓ yes" in words
    assert "on ssh:pi MB 0.900 1.00 1.11 ✗ worse" in words


def test_quality_is_held_against_a_former_run(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "first"), make_run(tmp_path / "second")
    summary = json.loads((second / "summary.json").read_text())
    summary["bundles"]["onnx"]["CIDEr"] = 300.0
    write_json(second / "summary.json", summary)
    words = Page(text_of(second, tmp_path, against=first)).words()
    assert "onnx CIDEr 388.2 300.0 0.773 ✗ worse" in words
    assert "1 of 3 worse" in words


def test_times_with_other_threads_are_not_compared(tmp_path: Path) -> None:
    """Two threads' time beside one's would be called a bundle that has grown slower."""
    one, two = ({"threads": threads, "decode": {"num_beams": 3}} for threads in (1, 2))
    write_json(tmp_path / "now.json", [record("local", 8.0, settings=one)])
    write_json(tmp_path / "old.json", [record("local", 5.0, settings=two)])
    html = text_of(tmp_path / "now.json", tmp_path, against=tmp_path / "old.json")
    assert "Nothing here was measured there" in html


def test_nothing_in_common_is_said(now: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps([record("browser", 7.0)]))
    assert "Nothing here was measured there" in text_of(now, tmp_path, against=old)


def test_what_is_no_record_is_refused(now: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is missing"):
        text_of(now, tmp_path, against=tmp_path / "none.json")
    with pytest.raises(ArtifactError, match="neither a run nor"):
        text_of(now, tmp_path, against=tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ArtifactError, match="holds no records"):
        text_of(tmp_path / "bad.json", tmp_path)
    (tmp_path / "bad.json").write_text('[{"schema_version": 2, "name": "a"}]')
    with pytest.raises(ArtifactError, match=r"bad\.json: not records that `bench` wrote"):
        text_of(tmp_path / "bad.json", tmp_path)


def test_the_page_with_records_needs_no_network(now: Path, tmp_path: Path) -> None:
    html = text_of(now, tmp_path)
    page = Page(html)
    assert page.all("script") == page.all("link") == page.all("img") == []
    assert "http://" not in html and "https://" not in html


def test_bars_of_very_different_times_are_each_a_whole(tmp_path: Path) -> None:
    slow = record("browser", 800.0)
    slow["stats"] = {name: {"p50_ms": 100 * ms["p50_ms"]} for name, ms in slow["stats"].items()}
    write_json(tmp_path / "r.json", [record("local", 8.0), slow])
    html = text_of(tmp_path / "r.json", tmp_path)
    shares = [style for tag in Page(html).all("i") if (style := tag.get("style"))]
    assert shares == ["width: 12.5%", "width: 25.0%", "width: 62.5%"] * 2
    assert "Each bar is a whole" in html
    assert "energy of one" not in html, "a column that nobody fills is left out"
