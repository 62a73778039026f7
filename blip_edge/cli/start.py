"""The verb to begin with."""

from typing import Annotated

import typer

from blip_edge.cli import options
from blip_edge.cli.output import Output
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
        out.folder(output)
        pictures = [output / sample["image"] for sample in summary["samples"][:1]]
        out.next("blip-edge", "caption", output / "onnx", *pictures)
