"""The tables of what 8 bits cost, from their record: one for each model."""

import re
import statistics
from collections.abc import Sequence
from typing import Any

from runs import ROOT, between

__all__ = ["PAGE", "table", "with_table"]

PAGE = ROOT / "quantize" / "README.md"
BEGIN = "<!-- forms: written by benchmarks/quantize_grid.py -->\n"
END = "<!-- /forms -->\n"
NOT_RUN = "not run"
ENGINES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "coreml": "Core ML, simulated"}
WHAT = {
    "caption": "The captioner",
    "student": "A student of a quarter of its parameters",
    "retrieval": "The matcher",
    "vqa": "The answering model",
    "book-caption": "The picture book's captioner, a student",
    "book-retrieval": "The picture book's matcher, a student",
}
MOST_LOST, LARGEST = 0.005, 0.30
SHIPPED = "static"


def table(kept: dict[str, Any], forms: Sequence[Any], targets: Sequence[str]) -> str:
    """All models, in Markdown, and what became of the goals."""
    lines: list[str] = []
    for model, metric in kept["metrics"].items():
        lines += [
            f"**{WHAT[model]}**, {metric}, % (95 %); MB of graphs; ms a picture where it was timed",
            "",
            f"| | {' | '.join(ENGINES[target] for target in targets)} |",
            "|---|" + "---|" * len(targets),
        ]
        for form in forms:
            told = (_cell(kept, model, form, target) for target in targets)
            lines.append(f"| {form.what} | {' | '.join(told)} |")
        lines.append("")
    cells = kept["cells"].items()
    fewer = {cell["items"] for name, cell in cells if "-coreml" in name and "items" in cell}
    lines += [f"Core ML's figures are of the first {items} items.\n" for items in sorted(fewer)]
    return "\n".join([*lines, *_goals(kept, targets)]) + "\n"


def _cell(kept: dict[str, Any], model: str, form: Any, target: str) -> str:
    if target not in form.targets:
        return "not there"
    name = f"{model}-{form.name}-{target}"
    found = kept["cells"].get(name)
    if found is None:
        return NOT_RUN
    if "refused" in found:
        return f"refused ({found['refused']})"
    scale = 100 if kept["metrics"][model] == "truth" else 1
    low, high = (scale * bound for bound in found["interval"])
    told = f"{scale * found['metric']:.1f} ({low:.1f} to {high:.1f})"
    seeds = [scale * cell["metric"] for cell in _seeds(kept, name)]
    if len(seeds) > 1:
        told += f", {len(seeds)} seeds {min(seeds):.1f} to {max(seeds):.1f}"
    told += f"; {found['bytes'] / 1e6:.2f} MB"
    ms = kept["latency_ms"].get(name)
    return told if ms is None else f"{told}; {ms:.2f} ms"


def _seeds(kept: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A cell with every seed that was run."""
    cells = kept["cells"].items()
    return [cell for one, cell in cells if re.fullmatch(rf"{name}(-\d+)?", one)]


def _goals(kept: dict[str, Any], targets: Sequence[str]) -> list[str]:
    """What the shipped form loses, by the mean of its seeds, and weighs, against the same engine
    in float."""
    lost, sizes = [], []
    for target in targets:
        for model in kept["metrics"]:
            before = kept["cells"].get(f"{model}-float-{target}")
            name = f"{model}-{SHIPPED}-{target}"
            after = kept["cells"].get(name)
            if not before or not after or "metric" not in before or "metric" not in after:
                continue
            mean = statistics.fmean(cell["metric"] for cell in _seeds(kept, name))
            share = 1 - mean / before["metric"]
            met = "" if share <= MOST_LOST else " (missed)"
            lost.append(f"{model} on {ENGINES[target]} {share:.1%}{met}")
            size = after["bytes"] / before["bytes"]
            met = "" if size <= LARGEST else " (missed)"
            sizes.append(f"{model} on {ENGINES[target]} {size:.2f}{met}")
    return [
        f"- lost by {SHIPPED}, goal at most {MOST_LOST:.1%}: {', '.join(lost) or NOT_RUN}",
        f"- graph files over float32, goal at most {LARGEST:.2f}: {', '.join(sizes) or NOT_RUN}",
    ]


def with_table(
    page: str,
    kept: dict[str, Any],
    forms: Sequence[Any],
    targets: Sequence[str],
) -> str:
    """`page` with the tables of a record between its two marks."""
    return between(page, BEGIN, END, table(kept, forms, targets))
