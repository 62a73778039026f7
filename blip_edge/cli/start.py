"""The verb to begin with."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from blip_edge.cli import options
from blip_edge.cli.output import Output, table
from blip_edge.errors import import_extra

__all__ = ["app"]

app = typer.Typer()


@app.command(
    rich_help_panel="Start", epilog=options.examples("blip-edge quickstart -o runs/quickstart")
)
def quickstart(
    output: options.Output,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="STAGE.KEY=VALUE", help="Change a stage's recipe; can be repeated."
        ),
    ] = None,
    seed: options.Seed = 0,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Start over instead of going on.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run the whole pipeline on drawn pictures: minutes on two cores, nothing to download.

    A run that was stopped goes on where it was.
    """
    with Output(json=json, quiet=quiet) as out:
        import_extra("torch", "train")
        from blip_edge.quickstart import quickstart as run

        summary = run(output, overrides=set_ or (), seed=seed, force=force, progress=out.progress)
        out.result(summary, _tables(summary))
        pictures = [output / sample["image"] for sample in summary["samples"][:1]]
        out.next("blip-edge", "caption", output / "onnx", *pictures)


def _tables(summary: Mapping[str, Any]) -> str:
    """A run in three tables: its models, its bundles, and what was asked of them."""
    stages = [
        (name, f"{row['parameters']:,}", *_figures(row), *_said(row))
        for name, row in summary["stages"].items()
    ]
    bundles = [(name, row["precision"], *_figures(row)) for name, row in summary["bundles"].items()]
    goals = [
        (goal["name"], goal["goal"], f"{goal['measured']:.3f}", "met" if goal["met"] else "MISSED")
        for goal in summary["goals"]
    ]
    figures = ("MB", "CIDEr", "truth", "p50 ms", "p90 ms")
    return "\n\n".join(
        (
            table(stages, head=("model", "parameters", *figures, "facts", "distinct", "unseen")),
            table(bundles, head=("bundle", "precision", *figures)),
            table(goals, head=("goal", "asked", "measured", "")),
            f"{summary['seconds'] / 60:.1f} minutes; the page: {summary['report']}",
        )
    )


def _said(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Facts a caption states, how many captions differ, and truth on unseen compositions."""
    facts, distinct = f"{row['facts_per_caption']:.2f}", f"{row['distinct_captions']:.0f}"
    return facts, distinct, f"{row['truth_unseen']:.3f}"


def _figures(row: Mapping[str, Any]) -> tuple[str, ...]:
    times = ("-" if row[key] is None else f"{row[key]:.1f}" for key in ("p50_ms", "p90_ms"))
    return f"{row['bytes'] / 1e6:.2f}", f"{row['CIDEr']:.1f}", f"{row['truth']:.3f}", *times
