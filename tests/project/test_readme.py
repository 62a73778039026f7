"""The README's commands are ones that the command line understands."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from blip_edge.cli.app import app
from blip_edge.recipe import names

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("README.md"), *ROOT.glob("*/README.md")])


def commands() -> list[tuple[str, str]]:
    """(page, command) of every `blip-edge …` line in the pages' code blocks, fenced or indented."""
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        for block in (*fenced, *re.findall(r"^ {4}(?:\$ )?blip-edge .*", text, flags=re.MULTILINE)):
            lines = block.splitlines()
            found += [
                (page.relative_to(ROOT).as_posix(), line.strip().removeprefix("$ "))
                for line in lines
                if re.match(r"\s*(\$ )?blip-edge ", line)
            ]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_each_command_parses(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    words = words[: next((i for i, word in enumerate(words) if word in ("|", ">", "&&")), None)]
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words[0] not in ("--help", "--version"):
        assert words[0] in command.commands, f"{page}: there is no verb {words[0]}"
        command = command.commands[words.pop(0)]
    try:
        command.make_context("blip-edge", list(words))
    except typer.TyperException as error:
        pytest.fail(f"{page}: {line}: {error.format_message()}")
    except typer.Exit:
        pass  # --help and --version
    for flag, value in pairwise(words):
        if flag == "--recipe" and not value.endswith(".toml"):
            assert value in {name for _, name in names()}


def test_indented_commands_are_read_too() -> None:
    assert any(
        line.startswith("blip-edge prune ") for page, line in commands() if "distill" in page
    )


def test_the_readme_shows_the_first_command() -> None:
    lines = [line for page, line in commands() if page == "README.md"]
    assert any(line.startswith("blip-edge caption") for line in lines)
    assert "make quickstart" in (ROOT / "README.md").read_text()
