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


def test_a_claim_compares_the_same_seeds() -> None:
    """The best seed of a row that was run once is not held to the mean of three."""
    tables: Any = importlib.import_module("capfilt_table")
    known = {"roc_auc": 0.9, "confidence_roc_auc": 0.8}
    found = {"noisy": (1, 1), "filter": (9, 3), "captioner": (1, 1), "both": (4, 4), "sure": (8,)}
    cells = {
        f"{row}-{seed}": {
            "metrics": {name: {"value": value} for name in tables.METRICS},
            "texts": {"web": {"truth": known}, "synthetic": {"truth": known}},
        }
        for row, values in found.items()
        for seed, value in enumerate(values)
    }
    told = [line for line in tables._told({"cells": cells}, (0, 1)) if "both, if sure" in line]
    assert len(told) == 2 and all(line.endswith("(missed)") for line in told)
