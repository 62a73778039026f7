"""Help is quick, needs nothing heavy, and is there for every verb."""

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from blip_edge.cli.app import app
from tests.conftest import Run

# Half a second is what a hand does not notice; twice that is allowed to a busy machine.
HELP_SECONDS = 0.5
BUSY_MACHINE = 2.0
HEAVY = ("torch", "transformers", "onnxruntime", "openvino", "numpy", "PIL")


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))
VERBS = (
    *("quickstart", "data", "capfilt", "import", "train", "distill", "prune", "quantize"),
    *("export", "verify"),
    *("caption", "vqa", "match", "reason", "index", "search", "eval", "bench", "report"),
    *("inspect", "doctor", "recipe"),
)


def test_the_verbs_are_the_documented_ones() -> None:
    assert [path[0] for path in ALL if len(path) == 1] == list(VERBS)


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "blip-edge")
@pytest.mark.parametrize("width", ["60", "200"])
def test_every_verb_explains_itself(
    run: Run, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...], width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    code, out, err = run(*path, "--help")
    assert (code, err) == (0, "")
    assert "Usage: blip-edge" in out
    assert max(map(len, out.splitlines())) <= int(width)


@pytest.mark.parametrize("path", [p for p, c in ALL.items() if not hasattr(c, "commands")])
def test_every_verb_takes_the_common_flags(path: tuple[str, ...]) -> None:
    flags = {flag for option in ALL[path].params for flag in option.opts}
    assert {"--json", "--quiet", "--seed", "--force"} <= flags
    assert ALL[path].epilog, "an example is missing"
    undescribed = [p.name for p in ALL[path].params if not p.hidden and not p.help]
    assert undescribed == []


def test_no_verb_at_all_is_a_question_for_help(run: Run) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    assert "quickstart" in out


def test_the_version_is_the_packages(run: Run) -> None:
    from blip_edge import __version__

    assert run("--version") == (0, f"{__version__}\n", "")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from blip_edge.cli import main\n"
        "for argv in (['--help'], ['train', '--help'], ['caption', '--help']):\n"
        "    sys.argv = ['blip-edge', *argv]\n"
        "    try: main()\n"
        "    except SystemExit as stop: assert stop.code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"


def test_help_is_quick() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "blip_edge", "--help"], stdout=subprocess.DEVNULL, check=True
        )
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < HELP_SECONDS * BUSY_MACHINE
