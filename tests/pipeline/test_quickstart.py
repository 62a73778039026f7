"""The whole pipeline through the command line, tiny: one run, looked at from all sides."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from blip_edge.artifact import read_json, read_provenance, write_json
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.exporters import verify
from blip_edge.quickstart import quickstart

for package in ("accelerate", "coremltools", "onnxscript", "openvino", "torch"):
    pytest.importorskip(package)

TINY = (
    "data.train=48",
    "data.val=8",
    "data.test=8",
    "data.unseen=4",
    "data.image_size=24",
    "pretrained.steps=2",
    "pretrained.image_size=24",
    "pretrained.vision_width=32",
    "pretrained.text_width=32",
    "pretrained.max_length=12",
    "teacher.steps=3",
    "teacher.max_length=12",
    "student.steps=2",
    "student.calibration=1",
    "student.vision_neurons=64",
    "student.text_neurons=64",
    "pruned.steps=2",
    "pruned.calibration=1",
    "int8.samples=8",
    "int8.tolerance=1000",
    "export.golden=1",
    "bench.runs=2",
    "bench.seconds=0",
    "bench.loads=1",
    "bench.images=2",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return folder, quickstart(folder, overrides=TINY)


def test_the_summary_has_every_stage_and_bundle(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = finished
    assert list(summary["stages"]) == ["teacher", "student", "pruned", "int8"]
    assert list(summary["bundles"]) == ["onnx", "openvino", "coreml"]
    for row in summary["stages"].values():
        assert row["parameters"] > 0 and row["bytes"] > 0
        assert 0 <= row["truth"] <= 1 and row["CIDEr"] >= 0 and row["p50_ms"] > 0
    sizes = [row["parameters"] for row in summary["stages"].values()]
    assert sizes[0] > sizes[1] > sizes[2] == sizes[3]
    assert summary["stages"]["int8"]["bytes"] < summary["stages"]["pruned"]["bytes"]
    for name, row in summary["bundles"].items():
        assert row["precision"] == "int8" and 0 <= row["max_abs_diff"] < 0.1, name
    assert summary["bundles"]["coreml"]["p50_ms"] is None
    assert "simulated" in summary["bundles"]["coreml"]["note"]
    assert summary["report"] == str(folder / "report.html")


def test_every_folder_names_its_parents(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = finished
    for child, parent in (("teacher", "pretrained"), ("student", "teacher"), ("int8", "pruned")):
        paths = [Path(entry["path"]).name for entry in read_provenance(folder / child).parents]
        assert paths == [parent]


def test_its_bundles_verify_against_torch(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = finished
    assert verify(folder / "onnx", folder / "int8").passed


def test_the_report_is_one_page_with_every_picture(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = finished

    class Sources(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [value or "" for key, value in attrs if key == "src"]

    page = Sources()
    page.feed((folder / "report.html").read_text(encoding="utf-8"))
    assert len(page.found) >= len(summary["samples"]) > 0
    assert all(source.startswith("data:") for source in page.found)


def test_a_finished_run_prints_its_summary_and_touches_nothing(
    finished: tuple[Path, dict[str, Any]], run: Any
) -> None:
    folder, summary = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    changes = [word for text in TINY for word in ("--set", text)]
    code, out, _ = run("quickstart", "-o", str(folder), "--json", *changes)
    assert code == 0 and json.loads(out) == summary
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    del before[folder / "stages.json"], after[folder / "stages.json"]
    assert after == before


def test_a_stage_that_did_not_finish_is_done_again_and_no_other(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = finished
    stages = read_json(folder / "stages.json")
    kept = (folder / "teacher" / "model.safetensors").stat().st_mtime_ns
    del stages["summary"], stages["evaluate onnx"]
    write_json(folder / "stages.json", stages)
    (folder / "evaluation" / "onnx.json").unlink()
    quickstart(folder, overrides=TINY)
    assert (folder / "evaluation" / "onnx.json").is_file()
    assert (folder / "teacher" / "model.safetensors").stat().st_mtime_ns == kept


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="no quickstart run"):
        quickstart(tmp_path, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_override_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"STAGE\.key=value"):
        quickstart(tmp_path / "run", overrides=["steps=3"])
    with pytest.raises(UsageError, match="did you mean 'steps'"):
        quickstart(tmp_path / "run", overrides=["teacher.stesp=3"])
    assert not (tmp_path / "run").exists()
