"""The README's quickstart tables, made from the committed record of a real run.

    python benchmarks/quickstart_table.py                        # record -> README.md
    python benchmarks/quickstart_table.py --run runs/quickstart  # run -> record -> README.md

A test holds README.md to the record.
"""

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "benchmarks" / "results" / "quickstart.json"
README = ROOT / "README.md"
BEGIN = "<!-- quickstart: written by benchmarks/quickstart_table.py -->\n"
END = "<!-- /quickstart -->\n"

# What a run says of its own place and pictures means nothing elsewhere.
_LOCAL = ("report", "samples")


def record(run: Path) -> dict[str, Any]:
    """The part of a run's summary that is worth keeping."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return {key: value for key, value in summary.items() if key not in _LOCAL}


def tables(summary: dict[str, Any]) -> str:
    """The stages, the bundles and the goals of a run in Markdown."""
    lines = [
        f"One run on {summary['machine']['cpu']} with {summary['machine']['cores']} cores, "
        f"seed {summary['seed']}: {summary['seconds'] / 60:.1f} minutes after the install, "
        f"{summary['peak_memory_bytes'] / 1e9:.1f} GB of memory at the peak.",
        "",
        "| stage | parameters | MB | CIDEr | truth | facts a caption | distinct captions "
        "| truth, unseen compositions | p50 ms | p90 ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_stage(name, row) for name, row in summary["stages"].items()),
        "",
        "| bundle | precision | MB | CIDEr | truth | p50 ms | p90 ms | largest difference |",
        "|---|---|---|---|---|---|---|---|",
        *(_bundle(name, row) for name, row in summary["bundles"].items()),
        "",
        "| goal | asked | measured | |",
        "|---|---|---|---|",
        *(
            f"| {goal['name']} | {goal['goal']} | {goal['measured']:.3f} "
            f"| {'met' if goal['met'] else '**missed**'} |"
            for goal in summary["goals"]
        ),
        "",
        "CIDEr is ×100. *truth* is the share of captions on unseen scenes that parse wholly, state "
        "at least three facts and are right in all of them. A stage's times are those of its ONNX "
        "bundle, one picture with three beams, preprocessing included. The largest difference is "
        "between a bundle's outputs and those of the same model at the same precision in torch. "
        "Core ML packages are evaluated here by a program, so they have no time.",
    ]
    return "\n".join(lines) + "\n"


def with_tables(readme: str, summary: dict[str, Any]) -> str:
    """`readme` with the tables of `summary` between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{tables(summary)}{END}{after}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _stage(name: str, row: dict[str, Any]) -> str:
    return (
        f"| {name} | {row['parameters']:,} | {row['bytes'] / 1e6:.2f} | {row['CIDEr']:.1f} "
        f"| {row['truth']:.3f} | {row['facts_per_caption']:.2f} | {row['distinct_captions']:.0f} "
        f"| {row['truth_unseen']:.3f} | {_ms(row['p50_ms'])} | {_ms(row['p90_ms'])} |"
    )


def _bundle(name: str, row: dict[str, Any]) -> str:
    return (
        f"| {name} | {row['precision']} | {row['bytes'] / 1e6:.2f} | {row['CIDEr']:.1f} "
        f"| {row['truth']:.3f} | {_ms(row['p50_ms'])} | {_ms(row['p90_ms'])} "
        f"| {row['max_abs_diff']:.1e} |"
    )


def main() -> None:
    """Write the record, if a run is given, and the README."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, help="a finished quickstart run to record first")
    run = parser.parse_args().run
    if run is not None:
        RECORD.parent.mkdir(exist_ok=True)
        text = json.dumps(record(run), indent=1, ensure_ascii=False)
        RECORD.write_text(text + "\n", encoding="utf-8")
    summary = json.loads(RECORD.read_text(encoding="utf-8"))
    README.write_text(with_tables(README.read_text(encoding="utf-8"), summary), encoding="utf-8")


if __name__ == "__main__":
    main()
