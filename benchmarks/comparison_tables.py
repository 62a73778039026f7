"""The tables of training steps and loading in benchmarks/README.md, from the committed records.

    python benchmarks/comparison_tables.py

A test holds the page to the records.
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE / "README.md"
TRAIN = HERE / "results" / "train-step.json"
LOAD = HERE / "results" / "load-time.json"
BEGIN = "<!-- comparisons: written by benchmarks/comparison_tables.py -->\n"
END = "<!-- /comparisons -->\n"


def tables(train: dict[str, Any], load: dict[str, Any]) -> str:
    """Both tables, in Markdown."""
    how, rows = train["settings"], train["variants"]
    autocast = train["autocast"]
    lines = [
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
        "",
        f"Opening a folder of {load['settings']['bytes'] / 1e6:.0f} MB takes "
        f"{load['load']['p50_ms']:.0f} ms, reading its weights file "
        f"{load['read']['p50_ms']:.0f} ms (medians of {load['settings']['rounds']} fresh processes "
        f"each, file cached): {_spread(load['load_over_read'])} of it. The goal was 1.5.",
    ]
    return "\n".join(lines) + "\n"


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['times']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def with_tables(page: str, train: dict[str, Any], load: dict[str, Any]) -> str:
    """`page` with the tables between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{tables(train, load)}{END}{after}"


def records() -> tuple[dict[str, Any], dict[str, Any]]:
    """The committed records."""
    train, load = (json.loads(path.read_text(encoding="utf-8")) for path in (TRAIN, LOAD))
    return train, load


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), *records()), encoding="utf-8")
