"""The table and the figure of the grid of students, from its record."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from grid_cells import ROWS, SEEDS, TASKS, Row, steps
from runs import between

__all__ = ["PAGE", "PLOT", "RANKINGS", "draw", "goals", "table", "with_table"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "distill" / "README.md"
PLOT = ROOT / "distill" / "quality-latency.svg"
BEGIN = "<!-- students: written by benchmarks/student_grid.py -->\n"
END = "<!-- /students -->\n"
NOT_RUN = "not run"


class Goal(NamedTuple):
    """What share of the teacher's metric a row has to keep."""

    row: str
    what: str
    share: float


GOALS = (
    Goal("44", "44 %", 0.99),
    Goal("25", "25 %", 0.97),
    Goal("10", "10 %", 0.93),
    Goal("quarter", "pruned to 1/4, distilled", 0.97),
    Goal("tenth", "pruned to 1/10, distilled", 0.93),
    Goal("10-longer", "10 %, trained longer", 0.93),
)
RANKINGS = ("latency", "latency-even")
"""Rows that lead to the same latency in two ways."""
MINUTES = 5
EQUAL = 1.02
"""How much slower still counts as no slower."""
_COLUMN, _LINE = 0.09, 0.034
"""Of a panel's width, how close points are that are named in one column; of its height, a line."""
MOST_LOST = 3.0
"""Points that pruning to a quarter with distillation may lose."""


def table(kept: dict[str, Any]) -> str:
    """All rows, in Markdown, and what became of the goals."""
    heads = [f"{task}: {kept['metrics'][task]}" for task in TASKS]
    lines = [
        f"| | parameters | steps | {' | '.join(heads)} |",
        "|---|---|---|" + "---|" * len(TASKS),
        *(_line(row, kept) for row in ROWS),
        "",
        *goals(kept),
        *_minutes(kept),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row, kept: dict[str, Any]) -> str:
    cells = [_cell(row, task, kept) for task in TASKS]
    sizes = [
        found["parameters"] for task in TASKS if (found := _first(row, task, kept)) is not None
    ]
    size = "" if not sizes else f"{sizes[0] / 1e6:.2f} M"
    took = f"{steps(row, row.tasks[0]):,}" if row.verb else ""
    return f"| {' | '.join((row.what, size, took, *cells))} |"


def _cell(row: Row, task: str, kept: dict[str, Any]) -> str:
    if task not in row.tasks:
        return ""
    found = _first(row, task, kept)
    if found is None:
        return NOT_RUN
    scale = _scale(task, kept)
    low, high = (scale * bound for bound in found["interval"])
    told = f"{scale * found['metric']:.1f} ({low:.1f} to {high:.1f})"
    seeds = _seeds(row, task, kept)
    if (seed := _first_seed(row.name, task, kept)) != SEEDS[0]:
        own = scale * kept["cells"][f"{task}-teacher-{seed}"]["metric"]
        told += f"; seed {seed}, whose teacher has {own:.1f}"
    if len(seeds) > 1:
        told += f"; {len(seeds)} seeds {min(seeds):.1f} to {max(seeds):.1f}"
    ms = _ms(row.name, task, kept)
    return told if ms is None else f"{told}; {ms:.2f} ms"


def goals(kept: dict[str, Any]) -> list[str]:
    """A line for each goal, with what was measured."""
    lines = []
    for goal in GOALS:
        shares = []
        for task in TASKS:
            if (means := _means(("teacher", goal.row), task, kept)) is not None:
                teacher, student = means
                share = math.floor(1000 * student / teacher) / 1000  # a near miss is none
                shares.append(f"{task} {share:.1%}{'' if share >= goal.share else ' (missed)'}")
        told = ", ".join(shares) or NOT_RUN
        lines.append(f"- {goal.what}, goal {goal.share:.0%} of the teacher's metric: {told}")
    lost = []
    for task in TASKS:
        means = _means(("teacher", "quarter", "quarter-alone"), task, kept)
        if means is not None:
            teacher, with_it, alone = means
            met = "" if teacher - with_it <= MOST_LOST and with_it > alone else " (missed)"
            lost.append(f"{task} {teacher - with_it:.1f} against {teacher - alone:.1f} alone{met}")
    lines.append(
        f"- pruned to 1/4 and distilled, goal at most {MOST_LOST:g} points lost, and fewer than "
        f"by the task alone: {', '.join(lost) or NOT_RUN}"
    )
    lines.append(
        "- ranked jointly per latency against every layer alike, goal better and no slower: "
        f"{', '.join(_ranked(kept)) or NOT_RUN}"
    )
    return lines


def _ranked(kept: dict[str, Any]) -> list[str]:
    """What both rankings keep, and in how many milliseconds."""
    told = []
    for task in TASKS:
        if (means := _means(RANKINGS, task, kept)) is None:
            continue
        joint, even = means
        met, times = joint > even, ["", ""]
        alone = kept["ranked_ms"].get(task, {})
        both = alone if alone.keys() >= set(RANKINGS) else kept["latency_ms"].get(task, {})
        mine, theirs = (both.get(name) for name in RANKINGS)
        if mine is not None and theirs is not None:
            met = met and mine <= EQUAL * theirs
            times = [f" in {ms:.2f} ms" for ms in (mine, theirs)]
        else:
            times[1] = ", not timed"
        missed = "" if met else " (missed)"
        told.append(f"{task} {joint:.1f}{times[0]} against {even:.1f}{times[1]}{missed}")
    return told


def _minutes(kept: dict[str, Any]) -> list[str]:
    """How long the cells took that were made here."""
    took = [cell["minutes"] for name, cell in kept["cells"].items() if "-teacher-" not in name]
    if not took:
        return []
    over = sum(minutes > MINUTES for minutes in took)
    missed = f"; {over} of {len(took)} took longer (missed)" if over else ""
    return [
        f"- minutes of a cell, on shared cores and with pauses, goal at most {MINUTES}: "
        f"{min(took):g} to {max(took):g}, median {statistics.median(took):g}{missed}"
    ]


def _first(row: Row, task: str, kept: dict[str, Any]) -> dict[str, Any] | None:
    seed = _first_seed(row.name, task, kept)
    found: dict[str, Any] | None = kept["cells"].get(f"{task}-{row.name}-{seed}")
    return found


def _first_seed(name: str, task: str, kept: dict[str, Any]) -> int | None:
    """The first that a row was run with."""
    return next((seed for seed in SEEDS if f"{task}-{name}-{seed}" in kept["cells"]), None)


def _seeds(row: Row, task: str, kept: dict[str, Any]) -> list[float]:
    names = [f"{task}-{row.name}-{seed}" for seed in SEEDS]
    scale = _scale(task, kept)
    return [scale * kept["cells"][name]["metric"] for name in names if name in kept["cells"]]


def _means(names: Sequence[str], task: str, kept: dict[str, Any]) -> list[float] | None:
    """Of each row over the seeds that all of them were run with, in percent."""
    scale = _scale(task, kept)
    found = [
        [scale * kept["cells"][f"{task}-{name}-{seed}"]["metric"] for name in names]
        for seed in SEEDS
        if all(f"{task}-{name}-{seed}" in kept["cells"] for name in names)
    ]
    return [statistics.fmean(values) for values in zip(*found, strict=True)] if found else None


def _ms(name: str, task: str, kept: dict[str, Any]) -> float | None:
    found: float | None = kept["latency_ms"].get(task, {}).get(name)
    return found


def _scale(task: str, kept: dict[str, Any]) -> int:
    return 100 if kept["metrics"][task] == "truth" else 1


def draw(kept: dict[str, Any], rows: Sequence[Row], output: Path) -> None:
    """Each task's metric against the median milliseconds of one answer, a point for each row."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    plain: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "students", "font.size": 9}
    with matplotlib.rc_context(plain):
        figure, grid = pyplot.subplots(2, 2, figsize=(10, 8), layout="constrained")
        for axes, task in zip(grid.flat, TASKS, strict=True):
            _draw_task(axes, task, kept, rows)
        figure.supxlabel("milliseconds of one, ONNX Runtime float32, one thread (median)")
        figure.savefig(output, metadata={"Date": None}, facecolor="white")
        pyplot.close(figure)


def _draw_task(axes: Any, task: str, kept: dict[str, Any], rows: Sequence[Row]) -> None:
    names: dict[tuple[float, float], list[str]] = {}
    for row in rows:
        found, ms = _first(row, task, kept), _ms(row.name, task, kept)
        if found is None or ms is None:
            continue
        value, scale = _scale(task, kept) * found["metric"], _scale(task, kept)
        low, high = (scale * bound for bound in found["interval"])
        colour = {"distill": "#1f6fb2", "prune": "#c2571a"}.get(row.verb or "", "#333333")
        spread = [[value - low], [high - value]]
        axes.errorbar(ms, value, spread, fmt="o", ms=4, color=colour, elinewidth=0.7)
        names.setdefault((ms, value), []).append(row.name)
    axes.margins(x=0.12)
    _name(axes, {point: ", ".join(words) for point, words in names.items()})
    axes.set_title(f"{task}: {kept['metrics'][task]} (95 %)", size=9)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _name(axes: Any, names: dict[tuple[float, float], str]) -> None:
    """Names beside points, those of points close in time in one column, with lines to them."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    columns: list[list[tuple[float, float]]] = []
    for point in sorted(names):
        near = columns and point[0] - columns[-1][-1][0] < _COLUMN * (right - left)
        columns[-1].append(point) if near else columns.append([point])
    for column in columns:
        beside = column[-1][0] + 0.02 * (right - left)
        at = low
        for ms, value in sorted(column, key=lambda point: point[1]):
            at = max(value, at + _LINE * (high - low))
            line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0}
            axes.annotate(
                *(names[ms, value], (ms, value), (beside, at)),
                size=7,
                va="center",
                arrowprops=line,
            )


def with_table(page: str, kept: dict[str, Any]) -> str:
    """`page` with the table of a record between its two marks."""
    return between(page, BEGIN, END, table(kept))
