"""The README's quickstart tables, made from the committed record of a real run.

    python benchmarks/quickstart_table.py                        # record -> README.md
    python benchmarks/quickstart_table.py --run runs/quickstart  # run -> record -> README.md
    python benchmarks/quickstart_table.py --seeds runs/0 runs/1 runs/2   # runs of other seeds

A test holds README.md to the records.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from runs import between

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "benchmarks" / "results" / "quickstart.json"
SEEDS = RECORD.with_name("quickstart-seeds.json")
README = ROOT / "README.md"
BEGIN = "<!-- quickstart: written by benchmarks/quickstart_table.py -->\n"
END = "<!-- /quickstart -->\n"

_QUALITY = ("CIDEr", "truth", "truth_unseen")

# What a run says of its own place and pictures means nothing elsewhere.
_LOCAL = ("report", "samples")


def record(run: Path) -> dict[str, Any]:
    """The part of a run's summary that is worth keeping."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return {key: value for key, value in summary.items() if key not in _LOCAL}


def seeds(runs: list[Path]) -> list[dict[str, Any]]:
    """The quality of every stage of several runs, by seed."""
    summaries = [json.loads((run / "summary.json").read_text(encoding="utf-8")) for run in runs]
    return [
        {
            "seed": summary["seed"],
            "stages": {
                name: {key: row[key] for key in _QUALITY} for name, row in summary["stages"].items()
            },
            "goals": summary["goals"],
        }
        for summary in sorted(summaries, key=lambda summary: int(summary["seed"]))
    ]


def tables(summary: dict[str, Any], spread: list[dict[str, Any]]) -> str:
    """The stages, the bundles and the goals of a run, and how seeds differ, in Markdown."""
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
    return "\n".join([*lines, "", *_spread(spread)]) + "\n"


def _spread(runs: list[dict[str, Any]]) -> list[str]:
    """Mean, least and most of each figure over runs that differ in the seed of everything."""
    missed = [
        f"seed {run['seed']}: {goal['name']} ({goal['measured']:.3f})"
        for run in runs
        for goal in run["goals"]
        if not goal["met"]
    ]
    lines = [
        f"Over seeds {', '.join(str(run['seed']) for run in runs)}, which draw the world and train "
        "anew: mean, least and most.",
        "",
        "| stage | CIDEr | truth | truth, unseen compositions |",
        "|---|---|---|---|",
    ]
    for name in runs[0]["stages"]:
        rows = [run["stages"][name] for run in runs]
        cells = [_range([row[key] for row in rows], 1 if key == "CIDEr" else 3) for key in _QUALITY]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, "", f"Goals missed: {'; '.join(missed) or 'none'}."]


def _range(values: list[float], digits: int) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def with_tables(readme: str, summary: dict[str, Any], spread: list[dict[str, Any]]) -> str:
    """`readme` with the tables of the records between its two marks."""
    return between(readme, BEGIN, END, tables(summary, spread))


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
    parser.add_argument("--seeds", type=Path, nargs="+", help="finished runs, each of another seed")
    given = parser.parse_args()
    if given.run is not None:
        _write(RECORD, record(given.run))
    if given.seeds is not None:
        _write(SEEDS, seeds(given.seeds))
    readme = README.read_text(encoding="utf-8")
    README.write_text(with_tables(readme, *map(_read, (RECORD, SEEDS))), encoding="utf-8")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
