"""The table of packages made for quantization, from its record."""

from collections.abc import Sequence
from typing import Any

from runs import ROOT, between

__all__ = ["PAGE", "table", "with_table"]

PAGE = ROOT / "quantize" / "README.md"
BEGIN = "<!-- engines: written by benchmarks/quantizers.py -->\n"
END = "<!-- /engines -->\n"
NOT_RUN = "not run"
RUNTIMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}


def table(kept: dict[str, Any], rows: Sequence[Any]) -> str:
    """All rows, in Markdown, with what they have in common above."""
    metric, samples, budget = (kept[key] for key in ("metric", "samples", "budget_seconds"))
    lines = [
        f"The captioner, {samples} pictures to calibrate on, at most {budget:g} seconds each:",
        "",
        f"| ranges by | runs on | {metric}, % (95 %) | MB of graphs | seconds |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = _cells(kept["rows"].get(row.name))
        lines.append(f"| {row.what} | {RUNTIMES[row.target]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cells(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return [NOT_RUN, "", ""]
    if "refused" in found:
        return [f"refused ({found['refused']})", "", ""]
    low, high = (100 * bound for bound in found["interval"])
    seconds = "" if found["seconds"] is None else f"{found['seconds']:.0f}"
    quality = f"{100 * found['metric']:.1f} ({low:.1f} to {high:.1f})"
    return [quality, f"{found['bytes'] / 1e6:.2f}", seconds]


def with_table(page: str, kept: dict[str, Any], rows: Sequence[Any]) -> str:
    """`page` with the table of a record between its two marks."""
    return between(page, BEGIN, END, table(kept, rows))
