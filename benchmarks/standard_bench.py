"""The standard bench: one drawn world, one pre-trained model, and every task tuned from it.

    python benchmarks/standard_bench.py -o runs/standard   # two hours; goes on if killed
    python benchmarks/standard_bench.py --table             # record -> README.md

The run folder holds data, models and what `eval` said of them; the record is train/standard.json.
A test holds README.md to it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from runs import ROOT, RunOrTable, between, blip_edge, read
from standard_chance import chances
from standard_most import most

RECORD = ROOT / "train" / "standard.json"
README = ROOT / "README.md"
BEGIN = "<!-- standard: written by benchmarks/standard_bench.py -->\n"
END = "<!-- /standard -->\n"
BAND = (80.0, 95.0)
"""Where the world is calibrated to: what is learned, with room left to lose."""


class Trained(NamedTuple):
    """A model of the run folder: what it is trained for, from which other one."""

    model: str
    task: str
    init: str | None = "pretrain"


TRAINED = (
    Trained("pretrain", "pretrain", None),
    Trained("caption", "caption"),
    Trained("retrieval", "retrieval"),
    Trained("vqa", "vqa"),
    Trained("nlvr2", "nlvr2", "vqa"),
    Trained("visdial", "visdial"),
)


class Measured(NamedTuple):
    """One line of the table: what is asked of which model, and which figure is the headline."""

    model: str
    task: str
    split: str
    metric: str
    banded: bool = False
    also: tuple[str, ...] = ()
    limit: int | None = None


LINES = (
    Measured("caption", "caption", "test", "truth", True, ("CIDEr", "BLEU-4")),
    Measured("caption", "caption", "test_unseen", "truth"),
    Measured("retrieval", "retrieval", "test", "r_mean", True, ("txt_r1", "img_r1")),
    Measured("vqa", "vqa", "test", "vqa_accuracy", True),
    Measured("nlvr2", "nlvr2", "test", "accuracy", True, ("consistency",)),
    # Each of ten rounds reads a hundred dialogs: 60 pictures are 60,000 texts.
    Measured("visdial", "visdial", "val", "MRR", False, ("NDCG", "R@1"), limit=60),
    Measured("retrieval", "video-retrieval", "test", "vid_r1", False, ("vid_r10", "vid_mdR")),
    Measured("vqa", "video-qa", "test", "accuracy"),
    Measured("retrieval", "attributes", "test", "mAP"),
    Measured("retrieval", "pairs", "test", "ROC-AUC"),
)


def train_command(one: Trained) -> list[str]:
    """The words after `blip-edge` that make a model, in a run folder."""
    words = ["train", "--task", one.task, "--data", "data"]
    if one.init is not None:
        words += ["--init", one.init]
    words += ["--recipe", f"shapes-standard-{one.task}"]
    return [*words, "-o", one.model, "--resume"]


def eval_command(line: Measured) -> list[str]:
    """The words after `blip-edge` that measure a line, in a run folder."""
    words = ["eval", line.model, "--task", line.task, "--data", "data"]
    words += [] if line.split == "test" else ["--split", line.split]
    return words if line.limit is None else [*words, "--limit", str(line.limit)]


def run(folder: Path) -> None:
    """Make what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "data").exists():
        blip_edge(folder, ["data", "make", "shapes", "-o", "data", "--recipe", "shapes-standard"])
    for one in TRAINED:
        if not (folder / one.model).exists():
            blip_edge(folder, train_command(one))
    for line in LINES:
        found = folder / f"{line.task}-{line.split}.json"
        if not found.exists():
            said = blip_edge(folder, [*eval_command(line), "--ci", "--json"])
            found.write_text(said, encoding="utf-8")


def record(folder: Path) -> dict[str, Any]:
    """What a finished run has found, with what chance would have given."""
    guessed = chances(folder / "data")
    dataset = read(folder / "data" / "dataset.json")
    lines = []
    for line in LINES:
        found = read(folder / f"{line.task}-{line.split}.json")
        names = (line.metric, *line.also)
        lines.append(
            {
                "task": line.task,
                "split": line.split,
                "items": found["items"],
                "metrics": {name: found["metrics"][name] for name in names},
                "interval": found["intervals"][line.metric],
                "chance": guessed[line.task],
            }
        )
    models = {one.model: read(folder / one.model / "provenance.json") for one in TRAINED}
    return {
        "world": dataset["recipe"],
        "seed": dataset["seed"],
        "minutes": {model: round(made["seconds"] / 60, 1) for model, made in models.items()},
        "retrieval_at_most": most(folder / "data"),
        "lines": lines,
    }


def table(kept: dict[str, Any]) -> str:
    """The lines of a record in Markdown."""
    world, minutes, most = kept["world"], kept["minutes"], kept["retrieval_at_most"]
    rows = [
        "| task, items | metric | measured (95 %) | chance | also | command |",
        "|---|---|---|---|---|---|",
        *(_row(line, kept_line) for line, kept_line in zip(LINES, kept["lines"], strict=True)),
        "",
        f"The world: {world['train']:,} pictures to train on, {world['test']:,} to measure with, "
        f"{world['colours']} colours, {world['shapes']} shapes, {world['sizes']} sizes, "
        f"{world['textures']} textures, {world['places'] ** 2} places; no test scene is among the "
        f"training scenes. One seed, {kept['seed']}; minutes of a core that others used too: "
        f"{', '.join(f'{model} {spent:.0f}' for model, spent in minutes.items())}.",
        "",
        "Test pictures share texts, and an equal text of another picture counts as a wrong one: "
        "who finds all that fits has "
        f"{', '.join(f'{name} {value:.1f}' for name, value in most.items())} in retrieval.",
        "",
        _verdict(kept["lines"]),
    ]
    return "\n".join(rows) + "\n"


def _row(line: Measured, found: dict[str, Any]) -> str:
    scale = 100 if line.metric == "truth" else 1
    low, high = (scale * bound for bound in found["interval"])
    value = scale * found["metrics"][line.metric]
    also = ", ".join(f"{name} {found['metrics'][name]:.1f}" for name in line.also)
    split = "" if line.split in ("test", "val") else ", unseen compositions"
    name = "truth, %" if line.metric == "truth" else line.metric
    return (
        f"| {line.task}{split}, {found['items']} | {name} | {value:.1f} ({low:.1f} to {high:.1f}) "
        f"| {found['chance']:.1f} | {also} | `blip-edge {' '.join(eval_command(line))}` |"
    )


def _verdict(lines: list[dict[str, Any]]) -> str:
    outside = []
    for line, found in zip(LINES, lines, strict=True):
        value = found["metrics"][line.metric] * (100 if line.metric == "truth" else 1)
        if line.banded and not BAND[0] <= value <= BAND[1]:
            outside.append(f"{line.task} ({value:.1f})")
    return (
        f"Captions, retrieval, questions and NLVR2 are meant to lie between {BAND[0]:g} and "
        f"{BAND[1]:g}, so that students and quantizers have something to lose. Outside: "
        f"{', '.join(outside) or 'none'}."
    )


def with_table(readme: str, kept: dict[str, Any]) -> str:
    """`readme` with the table of a record between its two marks."""
    return between(readme, BEGIN, END, table(kept))


def main() -> None:
    """Run, record, and write the table; or the table alone."""
    given = RunOrTable(__doc__, "the run folder; finished parts stay").ask()
    if given.output is not None:
        run(given.output)
        kept = json.dumps(record(given.output), indent=1, ensure_ascii=False)
        RECORD.write_text(f"{kept}\n", encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(with_table(readme, read(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
