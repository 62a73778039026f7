"""The published numbers stand in the page as they were recorded, and their commands are real."""

import re
import shlex
from collections import Counter
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from blip_edge.cli.app import app
from blip_edge.recipe import names
from tests.project.test_readme_numbers import program_of


def _comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").partition("\ntask")[0].splitlines()
    return "\n".join(line.lstrip("# ") for line in lines).replace("\\\n", "")


PROGRAM = program_of("published_table")
RECORD: dict[str, Any] = PROGRAM.published()
OURS = [row for row in RECORD["rows"] if "run" in row]
RUNS = [step["run"] for step in RECORD["steps"].values()] + [row["run"] for row in OURS]
# What a recipe's first lines say of how it is run.
SAID = [
    line
    for path in sorted(PROGRAM.RECORD.parent.glob("*.toml"))
    for line in re.findall(r"^(blip-edge .*)$", _comment(path), flags=re.MULTILINE)
]


def flags_of(line: str) -> dict[str, str]:
    """What each flag of a command is given."""
    return {flag: value for flag, value in pairwise(shlex.split(line)) if flag[0] == "-"}


def test_the_page_says_what_was_recorded() -> None:
    page = PROGRAM.PAGE.read_text(encoding="utf-8")
    assert PROGRAM.BEGIN in page and PROGRAM.END in page
    assert PROGRAM.with_section(page, RECORD) == page


@pytest.mark.parametrize("line", dict.fromkeys(RUNS + SAID))
def test_each_command_parses(line: str) -> None:
    words = shlex.split(line)
    assert words.pop(0) == "blip-edge"
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"there is no verb {words[0]}"
        command = command.commands[words.pop(0)]
    try:
        command.make_context("blip-edge", words)
    except typer.TyperException as error:
        pytest.fail(f"{line}: {error.format_message()}")
    if (recipe := flags_of(line).get("--recipe")) is not None:
        assert ("train", recipe) in names()


def test_commands_make_what_later_ones_read() -> None:
    for name, step in RECORD["steps"].items():
        given = flags_of(step["run"])
        assert given["-o"] == name
        read = {given[flag] for flag in ("--data", "--init") if flag in given}
        assert read == set(step["needs"])
    for row in OURS:
        words, given = shlex.split(row["run"]), flags_of(row["run"])
        assert (words[:2], words[2]) == (["blip-edge", "eval"], row["needs"][-1])
        assert given["--task"] == row["task"]
        # One set is written by hand: no verb prepares it.
        assert given["--data"] in row["needs"] or row["dataset"] == "CommercialAdsDataset"


def test_all_that_is_needed_comes_first_and_once() -> None:
    every: set[str] = set()
    for row in OURS:
        lines = PROGRAM.commands(RECORD, row)
        assert len(set(lines)) == len(lines) and lines[-1] == row["run"]
        made: set[str] = set()
        for line in lines[:-1]:
            given = flags_of(line)
            assert {given[flag] for flag in ("--data", "--init") if flag in given} <= made
            made.add(given["-o"])
        every |= made
    assert every == set(RECORD["steps"])


def test_nothing_is_said_to_have_run() -> None:
    for row in RECORD["rows"]:
        assert row.get("ours") == ("not run" if "run" in row else None)
        assert ("BLIP" in row["model"]) == ("run" in row)
        assert row["source"] and all(0 < Decimal(value) <= 144 for value in row["metrics"].values())


def test_rows_are_told_apart() -> None:
    keys = [
        tuple(row[key] for key in ("task", "dataset", "split", "model", "source"))
        for row in RECORD["rows"]
    ]
    assert len(set(keys)) == len(keys)


def test_the_tables_of_the_paper_are_whole() -> None:
    tables = Counter(row["source"].split(";")[0] for row in OURS)
    # Models times sets and splits.
    expected = {5: 4 * 2, 6: 4, 7: 4 * 2, 8: 3 * 4, 9: 1, 10: 1, 11: 2}
    assert {n: tables[f"table {n}"] for n in expected} == expected


def test_released_weights_are_imported_and_not_trained() -> None:
    released = [line for line in RUNS if ".pth" in line]
    files = [Path(shlex.split(line)[2]).name for line in released]
    assert len(set(files)) == len(files) == 12
    assert all(line.startswith("blip-edge import downloads/model_") for line in released)
