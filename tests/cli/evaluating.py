"""`eval` of several tasks, one after the other, as a process that torchrun starts.

torchrun --nproc_per_node 2 -m tests.cli.evaluating FOLDER
"""

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from blip_edge.cli import main

TASKS = ("caption", "vqa", "retrieval")


def evaluate(folder: Path, name: str) -> None:
    """Leave `NAME-TASK.json`, what was printed, and `NAME-TASK-said.json`, what was predicted."""
    for task in TASKS:
        said = folder / f"{name}-{task}-said.json"
        where = ("--task", task, "--data", str(folder / "data"), "-o", str(said))
        model = str(folder / f"model-{task}")
        sys.argv = ["blip-edge", "eval", model, *where, "--ci", "--json"]
        with (folder / f"{name}-{task}.json").open("w") as out, redirect_stdout(out):
            try:
                main()
            except SystemExit as end:
                assert end.code == 0


if __name__ == "__main__":
    evaluate(Path(sys.argv[1]), f"rank {os.environ['RANK']}")
