"""The verb that measures quality."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from blip_edge.cli import options
from blip_edge.cli.output import Output, table
from blip_edge.errors import UsageError, import_extra
from blip_edge.progress import SILENT

if TYPE_CHECKING:
    from blip_edge.evaluation import Crew, Evaluation

__all__ = ["app"]

app = typer.Typer()

# What a task hears of the flags below; a task that is not here hears none of them.
_HEARD = {
    "caption": ("--beams", "--repetition-penalty"),
    "retrieval": ("--k",),
    "vqa": ("--beams", "--k"),
    "video-retrieval": ("--k", "--frames", "--sampling"),
    "video-qa": ("--beams", "--frames", "--sampling"),
}


@app.command(
    "eval",
    rich_help_panel="Use",
    epilog=options.examples(
        "blip-edge eval runs/quickstart/onnx --data runs/quickstart/data",
        "blip-edge eval runs/student --data runs/quickstart/data --ci -o captions.json",
        "blip-edge eval --predictions results.json --data data/coco --split val --json",
    ),
)
def evaluate(
    data: options.Data,
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="A bundle or a model folder.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FILE",
            help="Score what is in this file, not a MODEL: caption, vqa, nlvr2, visdial, video-qa.",
        ),
    ] = None,
    task: Annotated[
        Literal[
            "caption",
            "retrieval",
            "vqa",
            "nlvr2",
            "visdial",
            "attributes",
            "pairs",
            "video-retrieval",
            "video-qa",
        ],
        typer.Option("--task", help="What to measure."),
    ] = "caption",
    split: Annotated[
        str, typer.Option("--split", metavar="SPLIT", help="Which part of DATA.")
    ] = "test",
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N rows.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--k",
            metavar="K",
            min=1,
            help="Candidates read again: retrieval 256, video 128. Answers scored: vqa 128.",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            min=1,
            help="Frames taken of a clip: video-retrieval 8, video-qa 16.",
        ),
    ] = None,
    sampling: Annotated[
        Literal["uniform", "legacy"] | None,
        typer.Option(
            "--sampling",
            help="Frames to the clip's end (if not given), or BLIP's, which miss its tail.",
        ),
    ] = None,
    ci: Annotated[
        bool,
        typer.Option("--ci", metavar="", help="Give 95 % intervals too, by the bootstrap."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.json",
            help="Write what MODEL said, in the field's results format.",
        ),
    ] = None,
    beams: options.Beams = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option("--repetition-penalty", metavar="X", help="Of captions; nocaps 1.1."),
    ] = None,
    threads: options.Threads = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure quality: the same metrics by the same code for a model and for its bundles.

    Started by torchrun or accelerate, several processes share the work; the first one prints.
    """
    if (model is None) == (predictions is None):
        raise UsageError("eval takes either a MODEL or --predictions")
    told = {
        "--beams": beams,
        "--repetition-penalty": repetition_penalty,
        "--k": k,
        "--frames": frames,
        "--sampling": sampling,
    }
    _check_flags(task, told, {"-o": output, "--threads": threads}, model is not None)
    with Output(json=json, quiet=quiet) as out:
        from blip_edge import evaluation

        if output is not None:
            evaluation.check_results_file(output, task, force=force)
        crew = _crew()
        progress = SILENT if crew.rank else out.progress
        intervals = evaluation.Bootstrap(seed=seed) if ci else None
        how = evaluation.EvalSettings(
            limit=limit,
            beams=beams,
            repetition_penalty=repetition_penalty,
            k=k,
            frames=frames,
            sampling=sampling or "uniform",
            ci=intervals,
            crew=crew,
        )
        where: dict[str, Any] = {"task": task, "split": split, "how": how}
        if model is not None:
            found = evaluation.evaluate(model, data, **where, threads=threads, progress=progress)
        elif predictions is not None:
            found = evaluation.score_predictions(predictions, data, **where)
        if crew.rank:
            return  # the first process speaks for all
        if output is not None:
            evaluation.write_results(found, output, force=force)
        for skipped in found.skipped:
            progress.say(f"left out: {skipped.image}: {skipped.reason}")
        for note in found.notes:
            progress.say(f"note: {note}")
        out.result(found.as_json(), _figures(found))


def _check_flags(
    task: str, told: Mapping[str, Any], always: Mapping[str, Any], has_model: bool
) -> None:
    """Refuse a flag that would do nothing; those of `always` every task hears."""
    for flag, value in {**told, **always}.items():
        if value is None:
            continue
        if not has_model:
            raise UsageError(f"{flag} goes with a MODEL: --predictions holds what one said")
        if flag not in always and flag not in _HEARD.get(task, ()):
            tasks = ", ".join(other for other, heard in _HEARD.items() if flag in heard)
            raise UsageError(f"{flag} does nothing for --task {task}; it is for {tasks}")


def _crew() -> "Crew":
    """The processes that torchrun or accelerate started, or this one alone."""
    from blip_edge.evaluation import ALONE, Crew

    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    import_extra("torch", "train")
    from blip_edge.training import processes

    processes.begin()
    return Crew(processes.rank(), processes.world(), processes.everyone)


def _figures(found: "Evaluation") -> str:
    """Metrics with their intervals, and below them those of each group."""
    rows = [("items", str(found.items), "")]
    for name, value in found.metrics.items():
        one = (found.intervals or {}).get(name)
        rows.append((name, f"{value:.4g}", f"{one.low:.4g} to {one.high:.4g}" if one else ""))
    parts = [table(rows)]
    for name, groups in found.groups.items():
        metrics = list(dict.fromkeys(metric for own in groups.values() for metric in own))
        lines = [
            (group, *(f"{own[metric]:.4g}" if metric in own else "-" for metric in metrics))
            for group, own in groups.items()
        ]
        parts.append(table(lines, head=(name, *metrics)))
    return "\n\n".join(parts)
