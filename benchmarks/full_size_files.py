"""What 8 bits leave of the files at full size, for every task.

    python benchmarks/full_size_files.py -o runs/race    # -> results/full-size-files.json, page
    python benchmarks/full_size_files.py --table         # record -> quantize/README.md

Weights are random, which weigh what trained ones do. The work folder may be that of
cpu_inference.py: bundles that are there are kept.
"""

import json
from pathlib import Path
from typing import Any, get_args

from cpu_bundles import BUNDLES, prepare
from cpu_tasks import BASE, ModelName
from runs import ROOT, RunOrTable, between, read

RECORD = ROOT / "benchmarks" / "results" / "full-size-files.json"
PAGE = ROOT / "quantize" / "README.md"
BEGIN = "<!-- files: written by benchmarks/full_size_files.py -->\n"
END = "<!-- /files -->\n"
ENGINES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
LARGEST = 0.30
"""Of the graph files, as a share of float32's."""


def record(work: Path) -> dict[str, Any]:
    """Bytes of the graphs of every task in both precisions; what is missing is made.

    Raises:
        SystemExit: a bundle could not be made.
    """
    wanted = {name for name in BUNDLES if name.partition("-")[0] in ENGINES} - {"onnx-int4"}
    found: dict[str, dict[str, int]] = {}
    for task in get_args(ModelName):
        if failed := prepare(work, task, BASE, wanted):
            raise SystemExit(f"{task}: {failed}")
        found[task] = {name: _bytes(work / task / name) for name in sorted(wanted)}
    return {"model": BASE.name, "bytes": found}


def _bytes(bundle: Path) -> int:
    return sum(graph["bytes"] for graph in read(bundle / "manifest.json")["graphs"].values())


def table(kept: dict[str, Any]) -> str:
    """A line for each task, in Markdown."""
    lines = [
        f"Graph files of {kept['model']}, MB in float32 and in 8 bits, and their share (goal at "
        f"most {LARGEST:.2f}):",
        "",
        f"| | {' | '.join(ENGINES.values())} |",
        "|---|---|---|",
    ]
    for task, sizes in kept["bytes"].items():
        told = (_share(sizes[f"{engine}-fp32"], sizes[f"{engine}-int8"]) for engine in ENGINES)
        lines.append(f"| {task} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def _share(before: int, after: int) -> str:
    share = after / before
    missed = "" if share <= LARGEST else ", **missed**"
    return f"{before / 1e6:,.0f}, {after / 1e6:,.0f}: {share:.2f}{missed}"


def with_table(page: str, kept: dict[str, Any]) -> str:
    """`page` with the table of a record between its two marks."""
    return between(page, BEGIN, END, table(kept))


def main() -> None:
    """Make, record and write the table; or the last alone."""
    given = RunOrTable(__doc__, "work folder").ask()
    if given.output is not None:
        kept = json.dumps(record(given.output), indent=1)
        RECORD.write_text(f"{kept}\n", encoding="utf-8")
    page = with_table(PAGE.read_text(encoding="utf-8"), read(RECORD))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
