"""The command line as one process or several, perhaps killed, and what became of it.

One process imports torch and forks everything else, which costs milliseconds instead of seconds:

    python -m tests.unit.training.together FOLDER

does what FOLDER/runs.json asks for, and leaves a list of exit codes and errors in FOLDER/done.json.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

__all__ = ["Done", "Run", "together"]

ROOT = Path(__file__).parents[3]


class Run(TypedDict, total=False):
    """One command."""

    argv: list[str]
    world: int
    """Processes; 1 if not given."""
    until: str
    """Kill them all once a file of this pattern is there."""


class Done(TypedDict):
    """What became of it."""

    codes: list[int]
    errors: list[str]
    """What each process wrote to stderr."""


def together(folder: Path, runs: list[Run]) -> list[Done]:
    """Do `runs`, one after the other."""
    folder.mkdir(exist_ok=True)
    (folder / "runs.json").write_text(json.dumps(runs))
    command = [sys.executable, "-m", "tests.unit.training.together", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, check=True, timeout=300, env=environment)
    found: list[Done] = json.loads((folder / "done.json").read_text())
    return found


def _forked(folder: Path, run: Run, rank: int, port: int) -> int:
    if child := os.fork():
        return child
    from blip_edge.cli import main

    world = run.get("world", 1)
    if world > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"}
        os.environ |= {"MASTER_PORT": str(port)}
        os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    sys.argv = ["blip-edge", *run["argv"]]
    with (folder / f"err-{rank}").open("w") as err, open(os.devnull, "w") as out:
        os.dup2(err.fileno(), 2)
        os.dup2(out.fileno(), 1)
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            code = 1
        sys.stderr.flush()
    os._exit(code)


def _done(folder: Path, run: Run) -> Done:
    world = run.get("world", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = {rank: _forked(folder, run, rank, port) for rank in range(world)}
    codes = dict[int, int]()
    while len(codes) < world:
        for rank, child in children.items():
            if rank not in codes and (status := os.waitpid(child, os.WNOHANG))[0]:
                codes[rank] = os.waitstatus_to_exitcode(status[1])
        # As torchrun does: one that fails takes the others with it.
        if _is_there(run) or any(codes.values()):
            left = {rank: child for rank, child in children.items() if rank not in codes}
            codes |= _killed(left)
        time.sleep(0.002)
    errors = [(folder / f"err-{rank}").read_text() for rank in range(world)]
    return {"codes": [codes[rank] for rank in range(world)], "errors": errors}


def _killed(children: dict[int, int]) -> dict[int, int]:
    # All stand still before the first dies, or else another fails on its absence before its turn.
    for order in (signal.SIGSTOP, signal.SIGKILL):
        for child in children.values():
            os.kill(child, order)
    return {
        rank: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for rank, child in children.items()
    }


def _is_there(run: Run) -> bool:
    pattern = Path(run.get("until", "/nothing/nowhere"))
    return any(pattern.parent.glob(pattern.name))


def _all(folder: Path) -> Iterator[Any]:
    for run in json.loads((folder / "runs.json").read_text()):
        yield _done(folder, run)


def main(folder: Path) -> None:
    import torch

    import blip_edge.training  # noqa: F401 - once for all that are forked

    torch.set_num_threads(1)
    (folder / "done.json").write_text(json.dumps(list(_all(folder))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
