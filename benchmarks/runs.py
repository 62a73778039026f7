"""What the programs that fill a run folder and a page have in common: a command line, a verb, a
file, two marks.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "RunOrTable", "between", "blip_edge", "read"]

ROOT = Path(__file__).resolve().parent.parent


class RunOrTable(argparse.ArgumentParser):
    """The command line of a program that measures in a folder, or only writes its page again."""

    def __init__(self, doc: str | None, folder: str) -> None:
        """`doc` is the program's, `folder` says what -o is."""
        super().__init__(description=(doc or "").partition("\n")[0])
        self.add_argument("-o", "--output", type=Path, help=folder)
        self.add_argument("--table", action="store_true", help="only write what the record says")

    def ask(self) -> argparse.Namespace:
        """What was given: `output` or `table`, and whatever else was added."""
        given = self.parse_args()
        if given.table == (given.output is not None):
            self.error("give either -o or --table")
        return given


def blip_edge(folder: Path, words: list[str]) -> str:
    """Run a verb of this checkout in `folder`; what it prints as its result.

    Raises:
        subprocess.CalledProcessError: it failed, and has said why.
    """
    print("$ blip-edge", *words, file=sys.stderr, flush=True)
    command = [sys.executable, str(ROOT / "cli.py"), *words]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def read(path: Path) -> Any:
    """A JSON file's value."""
    return json.loads(path.read_text(encoding="utf-8"))


def between(page: str, begin: str, end: str, text: str) -> str:
    """`page` with `text` between its two marks."""
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{text}{end}{after}"
