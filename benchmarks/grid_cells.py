"""What the grid of students is made of: the rows of its table, as commands.

A row is one way to a smaller model; a cell is a row for one task and seed.
"""

from typing import NamedTuple

__all__ = ["ROWS", "TASKS", "Cell", "Row", "cells", "make_command"]

TASKS = ("caption", "retrieval", "vqa", "nlvr2")
SEEDS = (0, 1, 2)
SEEDED_TASKS = ("caption", "retrieval")
"""Tasks of which the rows that carry a claim are run with every seed."""

_ALONE = {
    "task_weight": 1.0,
    "logit_weight": 0.0,
    "affinity_weight": 0.0,
    "hidden_weight": 0.0,
    "contrastive_weight": 0.0,
}
_ADDED = ("logit_weight", "affinity_weight", "hidden_weight", "contrastive_weight")


class Row(NamedTuple):
    """A line of the table."""

    name: str
    what: str
    verb: str | None = None
    """None of the teacher itself."""
    flags: tuple[str, ...] = ()
    settings: dict[str, float] = {}  # noqa: RUF012  never changed
    seeded: bool = False
    tasks: tuple[str, ...] = TASKS


class Cell(NamedTuple):
    """A row for one task and one seed."""

    row: Row
    task: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folders and files."""
        return f"{self.task}-{self.row.name}-{self.seed}"


def _listening(*to: str) -> dict[str, float]:
    """Only these of the teacher's losses, with the recipe's own weights."""
    kept = {key: weight for key, weight in _ALONE.items() if key not in (*to, "task_weight")}
    return kept


def _student(name: str, what: str, size: int, **rest: object) -> Row:
    return Row(name, what, "distill", ("--student", f"shapes-{size}"), **rest)  # type: ignore[arg-type]


def _pruned(name: str, what: str, *flags: str, **rest: object) -> Row:
    return Row(name, what, "prune", flags, **rest)  # type: ignore[arg-type]


ROWS = (
    Row("teacher", "teacher"),
    _student("25-alone", "25 %, cut out of the teacher, then the task alone", 25, settings=_ALONE),
    _student("25-logits", "25 %, + logits", 25, settings=_listening("logit_weight")),
    _student(
        "25-affinity",
        "25 %, + affinities",
        25,
        settings=_listening(*_ADDED[:2]),
        tasks=("retrieval",),
    ),
    _student("25-hidden", "25 %, + hidden states", 25, settings=_listening(*_ADDED[:3])),
    _student("25", "25 %, + views: the recipe", 25, seeded=True),
    _student("25-attention", "25 %, + attention scores", 25, settings={"attention_weight": 0.1}),
    _student("44", "44 %, the recipe", 44, seeded=True),
    _student("10", "10 %, the recipe", 10),
    _pruned("half-alone", "pruned to 1/2, the task alone", "--keep", "0.5", settings=_ALONE),
    _pruned("half", "pruned to 1/2, distilled", "--keep", "0.5"),
    _pruned(
        "quarter-alone",
        "pruned to 1/4, the task alone",
        "--keep",
        "0.25",
        settings=_ALONE,
        seeded=True,
    ),
    _pruned("quarter", "pruned to 1/4, distilled", "--keep", "0.25", seeded=True),
    _pruned(
        "latency",
        "pruned to 1/2 of the latency, ranked jointly by it",
        *("--keep", "0.5", "--per", "latency"),
    ),
    _pruned(
        "latency-even",
        "pruned to 1/2 of the latency, every layer alike",
        *("--keep", "0.5", "--per", "latency", "--even"),
    ),
)


def cells() -> list[Cell]:
    """All, in the order in which they are run: what carries a claim comes first."""
    found = [
        Cell(row, task, seed)
        for seed in SEEDS
        for task in (TASKS if seed == 0 else SEEDED_TASKS)
        for row in ROWS
        if task in row.tasks and (seed == 0 or row.seeded)
    ]
    return sorted(found, key=lambda cell: (cell.seed, TASKS.index(cell.task), not cell.row.seeded))


def make_command(cell: Cell) -> list[str] | None:
    """The words after `blip-edge` that make a cell's model in a run folder; None of the teacher."""
    row = cell.row
    if row.verb is None:
        return None
    recipe = "shapes-standard-student" if row.verb == "distill" else "shapes-standard-prune"
    settings = [word for key, value in row.settings.items() for word in ("--set", f"{key}={value}")]
    return [
        *(row.verb, cell.task, "--data", "data", "--recipe", recipe, *row.flags, *settings),
        *("--seed", str(cell.seed), "-o", f"students/{cell.name}"),
    ]
