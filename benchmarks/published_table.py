"""Published numbers of BLIP in train/README.md, and what would make each of them here.

    python benchmarks/published_table.py

They are kept in train/published.json; a test holds the page to it and its commands to the command
line.
"""

import json
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

from runs import between

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "train" / "published.json"
PAGE = RECORD.with_name("README.md")
BEGIN = "<!-- published: written by benchmarks/published_table.py -->\n"
END = "<!-- /published -->\n"

Row = dict[str, Any]


def commands(record: Row, row: Row) -> list[str]:
    """All that has to be typed for a row, in order; nothing for other people's models."""
    order: dict[str, str] = {}

    def add(step: str) -> None:
        for need in record["steps"][step]["needs"]:
            add(need)
        order.setdefault(step, record["steps"][step]["run"])

    for need in row.get("needs", ()):
        add(need)
    return [*order.values(), *([row["run"]] if "run" in row else [])]


def section(record: Row) -> str:
    """The tables and the commands, in Markdown."""
    lines = [
        "## Published numbers",
        "",
        "What the paper (arXiv 2201.12086) and others print of BLIP, and what would make each "
        "number here. **None of it was run**: the data sets, the authors' weights and the "
        "GPUs were not at hand. A model is written by the line below that ends in its name, "
        "a data set too; with `MODEL` in its place the line under a table measures it. Metrics "
        "have the names that `eval` gives them; what other people's models reach stands beside.",
    ]
    for (task, dataset), rows in groupby(record["rows"], key=lambda r: (r["task"], r["dataset"])):
        lines += ["", f"**{dataset}**, `{task}`", "", *_table(list(rows))]
    steps = [step["run"] for step in record["steps"].values()]
    lines += [
        "",
        f"Files `*.pth` are the authors', from {record['weights']}; the rest of `downloads` is "
        "what the data sets' owners publish. The recipes `pretrain-*` make `models/pretrained-*` "
        "anew. `train` is meant for `torchrun`, on as many GPUs as a recipe's first line says.",
        "",
        *_block(steps),
    ]
    return "\n".join(lines) + "\n"


def _table(rows: list[Row]) -> list[str]:
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    head = ["model", "split", *metrics, "from", "ours", "MODEL"]
    lines = [_cells(head), "|---" * len(head) + "|", *(_cells(_row(row, metrics)) for row in rows)]
    notes = dict.fromkeys(row["note"] for row in rows if "note" in row)
    measured = dict.fromkeys(_measure(row) for row in rows if "run" in row)
    said = " ".join(f"{note[0].upper()}{note[1:]}." for note in notes)
    return [*lines, *(["", said] if said else []), "", *_block(list(measured))]


def _row(row: Row, metrics: list[str]) -> list[str]:
    values = [str(row["metrics"].get(name, "")) for name in metrics]
    model = f"`{_model(row)}`" if "run" in row else ""
    return [row["model"], row["split"], *values, row["source"], row.get("ours", ""), model]


def _model(row: Row) -> str:
    return str(row["needs"][-1])


def _measure(row: Row) -> str:
    return str(row["run"]).replace(_model(row), "MODEL")


def _cells(cells: list[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def _block(lines: list[str]) -> list[str]:
    return ["```console", *(f"$ {line}" for line in lines), "```"]


def with_section(page: str, record: Row) -> str:
    """`page` with the section between its marks."""
    return between(page, BEGIN, END, section(record))


def published() -> Row:
    """The committed record, its numbers with the digits that were printed."""
    record: Row = json.loads(RECORD.read_text(encoding="utf-8"), parse_float=Decimal)
    return record


if __name__ == "__main__":
    PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), published()), encoding="utf-8")
