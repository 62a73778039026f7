"""The far end of a bench: `python -m blip_edge.benchmarks.runner JOB.json` on another machine.

It runs the same protocol as here, and tells events on stdout, one JSON document a line (`job`).
With `-o FILE` they go to that file too, for where stdout does not come through. When nobody reads
any more, writing fails and the run ends: a lost connection leaves no process behind.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from blip_edge.benchmarks.job import Event, Job
from blip_edge.benchmarks.protocol import time_bundles
from blip_edge.errors import BlipEdgeError

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Time the job in `argv[0]`; the process's exit code."""
    path = Path(argv[0])
    copy = Path(argv[2]) if argv[1:2] == ["-o"] else None
    # Engines print to file descriptor 1 from C++; the events get a descriptor of their own.
    with ExitStack() as stack:
        outs = [stack.enter_context(os.fdopen(os.dup(1), "w", encoding="utf-8"))]
        os.dup2(2, 1)
        if copy is not None:
            outs.append(stack.enter_context(copy.open("w", encoding="utf-8")))
        return _run(path, outs)


def _run(path: Path, outs: Sequence[IO[str]]) -> int:
    def tell(event: Event) -> None:
        for out in outs:
            out.write(json.dumps(event) + "\n")
            out.flush()

    try:
        job = Job.from_json(json.loads(path.read_text(encoding="utf-8")), path.parent)
        time_bundles(job, tell)
    except BlipEdgeError as error:
        tell({"error": {"exit_code": error.exit_code, "message": str(error)}})
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
