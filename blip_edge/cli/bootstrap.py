"""The verb that cleans a user's own pictures and texts before anything learns from them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blip_edge.cli import options
from blip_edge.cli.output import Output, table
from blip_edge.errors import import_extra

if TYPE_CHECKING:
    from blip_edge.evaluation.capfilt import RoundsRecipe

__all__ = ["app"]

app = typer.Typer()


@app.command(
    rich_help_panel="Data",
    epilog=options.examples(
        "blip-edge capfilt --captioner onnx-caption --filter onnx-match --data data/web -o clean",
        "blip-edge capfilt --filter models/match --data 'web-{0000..0127}.tar' -o clean",
        "blip-edge capfilt --captioner a --captioner b --filter c --data data/web -o clean "
        "--recipe web-ensemble",
    ),
)
def capfilt(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DATA|TARS",
            help="A dataset folder with web_train.json, or WebDataset tars.",
        ),
    ],
    output: options.Output,
    captioner: Annotated[
        list[Path] | None,
        typer.Option(
            "--captioner",
            metavar="M",
            help="A model or bundle that writes new texts; can be repeated.",
        ),
    ] = None,
    filter_: Annotated[
        list[Path] | None,
        typer.Option(
            "--filter",
            metavar="M",
            help="A model or bundle that judges all texts; can be repeated.",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            metavar="N",
            help="Bootstrap N times; the recipe names those of the trainings in between.",
        ),
    ] = None,
    captions: Annotated[
        int | None,
        typer.Option("--captions", metavar="K", help="Texts that each captioner writes a picture."),
    ] = None,
    processes: Annotated[
        int,
        typer.Option("--processes", metavar="N", min=1, help="Worker processes."),
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Let a Ray cluster do it: its address, 'auto', or 'local' to start one here.",
        ),
    ] = None,
    resume: options.Resume = False,
    threads: options.Threads = None,
    recipe: options.Recipe = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Give web pictures better texts: a captioner writes new ones, a filter drops what is wrong.

    Bundles do it without torch. What was decided of each text is in texts.jsonl.
    """
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.artifact import read_json
        from blip_edge.cli.recipes import overrides, stage_of
        from blip_edge.evaluation.capfilt import RoundsRecipe
        from blip_edge.recipe import load

        pairs = overrides(set_, rounds=rounds, captions=captions)
        how = load(RoundsRecipe, stage_of("capfilt"), recipe, pairs)
        _function_of(how)(
            data,
            output,
            captioners=captioner or (),
            filters=filter_ or (),
            resume=resume,
            processes=processes,
            ray=ray,
            threads=threads,
            seed=seed,
            force=force,
            progress=out.progress,
        )
        summary = read_json(output / "capfilt.json")
        out.result({"output": str(output), **summary}, _table(summary))
        if (output / "web_train.json").is_file():
            out.next("blip-edge", "train", "--task", "pretrain", "--data", output, "-o", "MODEL")
        else:
            last = summary["pictures"] and len(list(output.glob("*.tar"))) - 1
            tars = output / f"{{000000..{last:06}}}.tar"
            out.next("blip-edge", "train", "--task", "pretrain", "--data", tars, "-o", "MODEL")


def _function_of(how: "RoundsRecipe") -> Callable[..., Path]:
    """What does it: one bootstrapping, which needs no torch, or several with training between."""
    if how.rounds == 1:
        from blip_edge.evaluation.capfilt import capfilt

        return lambda data, output, **told: capfilt(data, output, how.of_round(0), **told)

    import_extra("torch", "train")
    from blip_edge.cli.recipes import stage_of
    from blip_edge.recipe import load
    from blip_edge.training import TrainRecipe
    from blip_edge.training.rounds import Trainings, bootstrap_in_rounds

    names = {"pretrain": how.pretrain, "caption": how.caption, "retrieval": how.retrieval}
    trainings = {task: load(TrainRecipe, stage_of("train"), name) for task, name in names.items()}
    return partial(bootstrap_in_rounds, recipe=how, trainings=Trainings(**trainings))


def _table(summary: dict[str, Any]) -> str:
    """Texts by where they come from, and how many of them stay."""
    rows = [
        (
            source,
            f"{found['texts']:,}",
            f"{found['kept']:,}",
            _percent(found["noise_ratio"]),
            _percent(found.get("truth", {}).get("right")),
            _percent(found.get("truth", {}).get("right_of_kept")),
        )
        for source in ("web", "synthetic")
        if (found := summary[source])["texts"]
    ]
    counts = f"{summary['pictures']:,} pictures, {summary['without_text']:,} left without a text"
    if summary["skipped"]:
        counts += f", {summary['skipped']:,} unreadable (skipped.jsonl)"
    columns = ("texts", "all", "kept", "dropped", "right", "right of kept")
    known = any("truth" in summary[source] for source in ("web", "synthetic"))
    width = len(columns) if known else 4
    return f"{counts}\n{table([row[:width] for row in rows], head=columns[:width])}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
