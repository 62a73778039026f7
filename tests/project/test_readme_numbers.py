"""The figures in the pages are those of the committed records of runs."""

import importlib
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def program_of(name: str) -> Any:
    """A program in benchmarks/, as a module."""
    return importlib.import_module(name)


def test_the_benchmarks_page_says_what_the_records_say() -> None:
    program = program_of("comparison_tables")
    page = program.PAGE.read_text(encoding="utf-8")
    assert program.with_tables(page, program.records()) == page
    assert program.BEGIN in page


def test_the_benchmarks_page_says_how_often_bundles_said_the_same() -> None:
    program = program_of("same_words")
    page = program.PAGE.read_text(encoding="utf-8")
    record = json.loads(program.RECORD.read_text(encoding="utf-8"))
    assert program.with_table(page, record) == page
    assert program.BEGIN in page


def test_the_readme_says_what_the_recorded_run_said() -> None:
    program = program_of("quickstart_table")
    record, seeds = (
        json.loads(path.read_text(encoding="utf-8")) for path in (program.RECORD, program.SEEDS)
    )
    readme = program.README.read_text(encoding="utf-8")
    assert program.with_tables(readme, record, seeds) == readme
    assert f"{record['stages']['teacher']['parameters']:,}" in readme
