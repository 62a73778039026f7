"""Real pictures: students under a third of their teacher's size, with it and without it.

    python benchmarks/picturebook_students.py -o runs/picturebook   # after picturebook_curves.py
    python benchmarks/picturebook_students.py --table               # record -> distill/README.md

The run folder is that of picturebook_curves.py: its data, and the models that started from towers,
which are the teachers. The record is distill/picturebook.json.
"""

import json
from pathlib import Path
from typing import Any

from runs import ROOT, RunOrTable, between, blip_edge, read

RECORD = ROOT / "distill" / "picturebook.json"
PAGE = ROOT / "distill" / "README.md"
BEGIN = "<!-- picturebook: written by benchmarks/picturebook_students.py -->\n"
END = "<!-- /picturebook -->\n"
METRICS = {"caption": "CIDEr", "retrieval": "r_mean"}
STUDENT = "book-30"
LARGEST = 0.30
READ = 32
"""Candidates of a query that are read again, as for the teacher."""
_ALONE = ("logit_weight", "affinity_weight", "hidden_weight", "contrastive_weight")
WAYS = {
    "distilled": [],
    "alone": ["--set", "task_weight=1.0", *(w for k in _ALONE for w in ("--set", f"{k}=0.0"))],
}
"""Flags by row: the same cut of the same teacher, and what it learns from then."""


def run(folder: Path) -> None:
    """Make and measure what is not there yet."""
    (folder / "students").mkdir(exist_ok=True)
    for task in METRICS:
        for way, flags in WAYS.items():
            output = f"students/{task}-{way}"
            if not (folder / output).exists():
                words = ["distill", f"{task}-towers", "--data", "data", "--student", STUDENT]
                words += ["--vocab-from", "data", "--recipe", "picturebook-student"]
                blip_edge(folder, [*words, *flags, "-o", output])
            if not (found := folder / f"{output}-eval.json").exists():
                words = ["eval", output, "--task", task, "--data", "data", "--ci", "--json"]
                words += ["--k", str(READ)] if task == "retrieval" else []
                found.write_text(blip_edge(folder, words), encoding="utf-8")


def record(folder: Path) -> dict[str, Any]:
    """What was found, by task and row."""
    found: dict[str, Any] = {}
    for task, metric in METRICS.items():
        rows = {"teacher": f"{task}-towers", **{way: f"students/{task}-{way}" for way in WAYS}}
        found[task] = {"metric": metric}
        for row, model in rows.items():
            said = read(folder / f"{model}-eval.json")
            size = json.loads(blip_edge(folder, ["inspect", model, "--json"]))["parameters"]
            found[task][row] = {
                "value": round(said["metrics"][metric], 3),
                "interval": [round(bound, 3) for bound in said["intervals"][metric]],
                "items": said["items"],
                "parameters": size,
                "minutes": round(read(folder / model / "provenance.json")["seconds"] / 60, 1),
            }
    return found


def table(kept: dict[str, Any]) -> str:
    """What a record says, in Markdown."""
    lines = [
        "| test split | teacher | distilled | the same cut, the task alone |",
        "|---|---|---|---|",
    ]
    told = []
    for task, found in kept.items():
        rows = [found[row] for row in ("teacher", *WAYS)]
        cells = " | ".join(
            f"{row['value']:.1f} ({row['interval'][0]:.1f} to {row['interval'][1]:.1f})"
            for row in rows
        )
        lines.append(f"| {task}, {found['metric']} | {cells} |")
        share = found["distilled"]["parameters"] / found["teacher"]["parameters"]
        size = f"{found['distilled']['parameters'] / 1e6:.1f} M"
        met = "" if share <= LARGEST else " (missed)"
        minutes = " and ".join(f"{found[way]['minutes']:g}" for way in WAYS)
        told.append(
            f"{task}: {size} parameters, {share:.0%} of the teacher's{met}, {minutes} minutes of a "
            f"core that others used too"
        )
    items = kept["caption"]["teacher"]["items"]
    lines += ["", f"{items} pictures whose names were never seen; one seed. {'; '.join(told)}."]
    return "\n".join(lines) + "\n"


def with_table(page: str, kept: dict[str, Any]) -> str:
    """`page` with the table of a record between its two marks."""
    return between(page, BEGIN, END, table(kept))


def main() -> None:
    """Run, record and write the table; or the last alone."""
    given = RunOrTable(__doc__, "the run folder of picturebook_curves.py").ask()
    if given.output is not None:
        run(given.output)
        kept = json.dumps(record(given.output), indent=1)
        RECORD.write_text(f"{kept}\n", encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), read(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
