"""Pages of the measuring programs say what their records hold."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def _page(program: str) -> tuple[str, str]:
    """The page of a program as it is, and as its record would write it."""
    grid: Any = importlib.import_module(program)
    page, kept = grid.PAGE.read_text(), json.loads(grid.RECORD.read_text())
    rows: tuple[Any, ...] = ()
    if program == "capfilt_grid":
        rows = (grid.ROWS, grid.SEEDS)
    elif program == "quantizers":
        rows = (grid.ROWS,)
    elif program == "quantize_grid":
        rows = (grid.FORMS, grid.TARGETS)
    return page, grid.with_table(page, kept, *rows)


PROGRAMS = [
    "capfilt_grid",
    "capfilt_throughput",
    "capfilt_workers",
    "device_records",
    "full_size_files",
    "full_size_table",
    "huge_pages",
    "openclipart_texts",
    "picturebook_students",
    "quantize_grid",
    "quantizers",
    "store_ratio",
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_page_says_what_the_record_holds(program: str) -> None:
    page, written = _page(program)
    assert page == written
    assert ".py -->\n<!-- /" not in page  # something stands between the marks


def test_what_is_recorded_of_rows_that_are_not_there_stays(tmp_path: Path) -> None:
    grid: Any = importlib.import_module("capfilt_grid")
    kept = json.loads(grid.RECORD.read_text())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"recipe": kept["data"]}))
    assert grid.record(tmp_path, kept) == kept
    said = {"truth": 0.5, "CIDEr": 1.0, "r_mean": 30.0}
    found = {"metrics": said, "intervals": {name: [value, value] for name, value in said.items()}}
    for task in grid.METRICS:
        (tmp_path / f"noisy-0-{task}.json").write_text(json.dumps(found))
    again = grid.record(tmp_path, kept)["cells"]
    assert again["noisy-0"]["metrics"]["truth"]["value"] == 0.5
    assert {**again, "noisy-0": kept["cells"]["noisy-0"]} == kept["cells"]
