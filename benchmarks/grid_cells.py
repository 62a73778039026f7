"""What the grid of students is made of: the rows of its table, as commands.

A row is one way to a smaller model; a cell is a row for one task and seed. A seed has a teacher of
its own, from which its students are made.
"""

from dataclasses import dataclass, field

__all__ = [
    "ROWS",
    "SEEDS",
    "TASKS",
    "Cell",
    "Row",
    "cells",
    "made_as",
    "make_command",
    "steps",
    "teacher",
]

TASKS = ("caption", "retrieval", "vqa", "nlvr2")
SEEDS = (0, 1, 2)
SEEDED_TASKS = ("caption", "retrieval")
"""Tasks of which more than one seed is asked."""
_CLAIMS = len(SEEDS)
"""Seeds of a row that carries a claim."""

_ALONE = {
    "task_weight": 1.0,
    "logit_weight": 0.0,
    "affinity_weight": 0.0,
    "hidden_weight": 0.0,
    "contrastive_weight": 0.0,
}
_ADDED = ("logit_weight", "affinity_weight", "hidden_weight", "contrastive_weight")
_SHORT = {"steps": 1800}
"""Where the teacher is asked at every step, in the minutes that a cell has."""
_STEPS = {"44": 2400, "25": 3200, "10": 4500, "tenth": 4500}
"""With a store: what fits into the minutes of a cell, fewer of a larger student."""
_PRUNED = 3600
"""The same of what is pruned, with its teacher and, for comparison, without."""
_LONGER = {"retrieval": 0.8, "nlvr2": 0.8}
"""Share of them where a step takes longer, too."""
_HIDDEN = {"hidden_weight": 2.0}
"""Which no store holds."""
_WITHOUT_VIEWS = ("retrieval",)
"""Tasks that did better on the val split without the teacher's views, where it is asked."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    what: str
    verb: str | None = None
    """None of the teacher itself."""
    flags: tuple[str, ...] = ()
    settings: dict[str, float] = field(default_factory=dict, hash=False)
    seeds: int = 1
    """How many of `SEEDS` are asked of it."""
    tasks: tuple[str, ...] = TASKS
    stored: tuple[str, ...] = ()
    """Tasks for which the teacher's answers come from a store, which all rows of a task and seed
    share. For others it is asked at every step, of its hidden states too."""


@dataclass(frozen=True)
class Cell:
    """A row for one task and one seed."""

    row: Row
    task: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folders and files."""
        return f"{self.task}-{self.row.name}-{self.seed}"


def _listening(*to: str) -> dict[str, float]:
    """Only these of the teacher's losses."""
    silent = {key: weight for key, weight in _ALONE.items() if key not in (*to, "task_weight")}
    return {**silent, **(_HIDDEN if "hidden_weight" in to else {}), **_SHORT}


def _size(share: int) -> tuple[str, str]:
    return ("--student", f"shapes-{share}")


# On the val split models that read did better with fewer steps and hidden states, but for small
# ones and pruned matchers. Judges of two pictures learn nothing without.
_WRITES = ("caption",)
_MATCHES = (*_WRITES, "retrieval")
_ANSWERS = (*_MATCHES, "vqa")
_HALF, _QUARTER = ("--keep", "0.5"), ("--keep", "0.25")
_FASTER = (*_HALF, "--per", "latency")

ROWS = (
    Row("teacher", "teacher", seeds=_CLAIMS),
    Row(
        "25-alone",
        "25 %, cut out of the teacher, then the task alone",
        "distill",
        _size(25),
        {**_ALONE, **_SHORT},
    ),
    Row("25-logits", "25 %, + logits", "distill", _size(25), _listening(*_ADDED[:1])),
    Row(
        "25-affinity",
        "25 %, + affinities",
        "distill",
        _size(25),
        _listening(*_ADDED[:2]),
        tasks=("retrieval",),
    ),
    Row("25-hidden", "25 %, + hidden states", "distill", _size(25), _listening(*_ADDED[:3])),
    Row("25-views", "25 %, + views", "distill", _size(25), _listening(*_ADDED)),
    Row(
        "25-attention",
        "25 %, + attention scores",
        "distill",
        _size(25),
        {**_listening(*_ADDED), "attention_weight": 0.1},
    ),
    Row(
        "44",
        "44 %, the recipe",
        "distill",
        _size(44),
        seeds=_CLAIMS,
        stored=_WRITES,
    ),
    Row(
        "25",
        "25 %, the recipe",
        "distill",
        _size(25),
        seeds=_CLAIMS,
        stored=_WRITES,
    ),
    Row("10", "10 %, the recipe", "distill", _size(10), stored=_ANSWERS),
    Row(
        "10-longer",
        "10 %, trained longer",
        "distill",
        _size(10),
        {"steps": 12000},
        tasks=_WRITES,
        stored=_WRITES,
    ),
    Row("half-alone", "pruned to 1/2, the task alone", "prune", _HALF, _ALONE, seeds=2),
    Row("half", "pruned to 1/2, distilled", "prune", _HALF, seeds=2, stored=_MATCHES),
    Row("quarter-alone", "pruned to 1/4, the task alone", "prune", _QUARTER, _ALONE, seeds=_CLAIMS),
    Row("quarter", "pruned to 1/4, distilled", "prune", _QUARTER, seeds=_CLAIMS, stored=_MATCHES),
    Row(
        "tenth",
        "pruned to 1/10, distilled",
        "prune",
        ("--keep", "0.1"),
        tasks=_MATCHES,
        stored=_MATCHES,
    ),
    Row(
        "latency",
        "pruned to 1/2 of the latency, ranked jointly by it",
        "prune",
        _FASTER,
        stored=_MATCHES,
    ),
    Row(
        "latency-even",
        "pruned to 1/2 of the latency, every layer alike",
        "prune",
        (*_FASTER, "--even"),
        stored=_MATCHES,
    ),
)


def cells() -> list[Cell]:
    """All, in the order in which they are run.

    What is asked comes before further seeds, and what carries a claim before the rest.
    """
    found = [
        Cell(row, task, seed)
        for seed in SEEDS
        for task in TASKS
        for row in ROWS
        if task in row.tasks
    ]
    return sorted(found, key=_place)


def _place(cell: Cell) -> tuple[bool, int, int, int]:
    asked = SEEDS[: cell.row.seeds if cell.task in SEEDED_TASKS else 1]
    return (cell.seed not in asked, -cell.row.seeds, cell.seed, TASKS.index(cell.task))


def made_as(cell: Cell) -> Cell:
    """The first of all cells that is made by the same words, which is often the cell itself."""
    words = _words(cell)
    return next(one for one in cells() if one.task == cell.task and _words(one) == words)


def steps(row: Row, task: str) -> int:
    """How many a row's model is trained for; 0 of the teacher, which is there."""
    if row.verb is None:
        return 0
    if "steps" in (settings := {**_asking(row, task), **row.settings}):
        return int(settings["steps"])
    return round(_STEPS.get(row.name, _PRUNED) * _LONGER.get(task, 1))


def _asking(row: Row, task: str) -> dict[str, float]:
    """What a row's model is told in addition where others of its row have a store."""
    if not row.stored or task in row.stored:
        return {}
    silent = {"contrastive_weight": 0.0} if task in _WITHOUT_VIEWS else {}
    return {**silent, **_HIDDEN, **_SHORT}


def make_command(cell: Cell) -> list[str] | None:
    """The words after `blip-edge` that make a cell's model in a run folder.

    None of the first seed's teacher, which is there.
    """
    words = _words(cell)
    return None if words is None else [*words, "-o", f"students/{cell.name}"]


def teacher(task: str, seed: int) -> str:
    """The model of a run folder that a seed's students of a task are made from."""
    return f"students/{task}-teacher-{seed}" if seed else task


def _words(cell: Cell) -> list[str] | None:
    row = cell.row
    if row.verb is None:
        recipe = f"shapes-standard-{cell.task}"
        words = ["train", "--task", cell.task, "--data", "data", "--init", "pretrain"]
        return [*words, "--recipe", recipe, "--seed", str(cell.seed)] if cell.seed else None
    recipe = "shapes-standard-student" if row.verb == "distill" else "shapes-standard-prune"
    keys = {**_asking(row, cell.task), **row.settings, "steps": steps(row, cell.task)}
    settings = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    store = ("--store", f"stores/{cell.task}-{cell.seed}") if cell.task in row.stored else ()
    return [
        *(row.verb, teacher(cell.task, cell.seed), "--data", "data", "--recipe", recipe),
        *(*row.flags, *settings, *store, "--seed", str(cell.seed)),
    ]
