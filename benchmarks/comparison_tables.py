"""The tables of training, its memory and data, and loading in benchmarks/README.md, from records.

    python benchmarks/comparison_tables.py

A test holds the page to the records.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from runs import between

HERE = Path(__file__).resolve().parent
PAGE = HERE / "README.md"
TRAIN = HERE / "results" / "train-step.json"
LOAD = HERE / "results" / "load-time.json"
PRETRAIN = HERE / "results" / "pretrain-step.json"
DATA = HERE / "results" / "data-path.json"
BEGIN = "<!-- comparisons: written by benchmarks/comparison_tables.py -->\n"
END = "<!-- /comparisons -->\n"


class Records(NamedTuple):
    """What the tables are made of."""

    train: dict[str, Any]
    load: dict[str, Any]
    pretrain: dict[str, Any]
    data: dict[str, Any] | None
    """None until `data_path.py` has been run on a machine quiet enough for it."""


def tables(found: Records) -> str:
    """All tables, in Markdown."""
    parts = [_steps(found.train), _load(found.load), _memory(found.pretrain)]
    parts += [_data(found.data)] if found.data is not None else []
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _steps(train: dict[str, Any]) -> list[str]:
    how, rows = train["settings"], train["variants"]
    autocast = train["autocast"]
    return [
        f"One training step of {how['model']}, {how['image_size']} px, batch {how['batch']}, "
        f"{how['tokens']} tokens, {how['threads']} threads, {how['rounds']} rounds in turns on "
        f"{train['machine']['cpu']}:",
        "",
        "| | median ms | fastest ms | CPU ms | samples/s | times as fast (95 %) | peak GB |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['what']} | {row['p50_ms']:.0f} | {row['min_ms']:.0f} "
            f"| {row['cpu_p50_ms']:.0f} | {row['samples_per_s']:.2f} "
            f"| {_spread(row['speed'])} | {row['peak_memory_bytes'] / 1e9:.2f} |"
            for row in rows.values()
        ),
        "",
        f"With the same autocast and optimiser ours is {_spread(autocast)} times as fast. The "
        "goals were 1.1 in float32, 2 with bf16 autocast, more than 1 with the same autocast, and "
        "no higher peak of memory.",
    ]


def _load(load: dict[str, Any]) -> list[str]:
    return [
        f"Opening a folder of {load['settings']['bytes'] / 1e6:.0f} MB takes "
        f"{load['load']['p50_ms']:.0f} ms, reading its weights file "
        f"{load['read']['p50_ms']:.0f} ms (medians of {load['settings']['rounds']} fresh processes "
        f"each, file cached): {_spread(load['load_over_read'])} of it. The goal was 1.5.",
    ]


def _memory(pretrain: dict[str, Any]) -> list[str]:
    how, rows = pretrain["settings"], pretrain["configurations"]
    return [
        f"Memory of training {how['model']}, {how['image_size']} px, longest texts, a queue of "
        f"{how['queue_size']} where there is one: the whole process at its highest, and what "
        "`inspect --memory` says:",
        "",
        "| | peak GB | estimate GB | estimate / peak | seconds a step |",
        "|---|---|---|---|---|",
        *(
            f"| {row['what']} | {row['peak_memory_bytes'] / 1e9:.2f} "
            f"| {row['estimate']['total'] / 1e9:.2f} | {row['estimate_over_peak']:.2f} "
            f"| {row['steps']['p50_ms'] / 1e3:.0f} |"
            for row in rows.values()
        ),
        "",
        f"The goals were {how['goal_bytes'] / 1e9:.0f} GB for pre-training with recomputing, and "
        f"estimates within {how['goal_share']:.0%}. The seconds, {how['threads']} threads, are "
        f"of a busy machine (a load of {pretrain['machine']['load_average']:.0f}).",
    ]


def _data(data: dict[str, Any]) -> list[str]:
    how = data["settings"]
    return [
        f"Samples a second on one core, {how['pictures']}, cropped and augmented as BLIP does, "
        f"against a float32 training step of {how['model']} ({how['rounds']} rounds in turns):",
        "",
        "| px | files | tars | a step takes | files, times a step (95 %) | tars |",
        "|---|---|---|---|---|---|",
        *(
            f"| {size} | {row['folder']['samples_per_core_s']:.0f} "
            f"| {row['tars']['samples_per_core_s']:.0f} "
            f"| {row['training']['samples_per_core_s']:.2f} "
            f"| {_spread(row['folder']['times'])} | {_spread(row['tars']['times'])} |"
            for size, row in data["sizes"].items()
        ),
        "",
        f"The goal was {how['goal']:.0f}.",
    ]


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['times']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def with_tables(page: str, found: Records) -> str:
    """`page` with the tables between its marks."""
    return between(page, BEGIN, END, tables(found))


def records() -> Records:
    """The committed records."""
    train, load, pretrain = (_read(path) for path in (TRAIN, LOAD, PRETRAIN))
    return Records(train, load, pretrain, _read(DATA) if DATA.is_file() else None)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), records()), encoding="utf-8")
