"""What the programs that fill a run folder and a page have in common: a verb, a file, two marks."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "between", "blip_edge", "read"]

ROOT = Path(__file__).resolve().parent.parent


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
