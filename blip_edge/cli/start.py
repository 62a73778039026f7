"""The verb to begin with."""

import typer

from blip_edge.cli import options
from blip_edge.cli.output import Output

__all__ = ["app"]

app = typer.Typer()


@app.command(rich_help_panel="Start", epilog=options.examples("blip-edge quickstart -o runs/first"))
def quickstart(
    output: options.Output,
    seed: options.Seed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run the whole pipeline on drawn pictures: minutes on two cores, nothing to download."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.quickstart import quickstart as run

        run(output, seed=seed, force=force, progress=out.progress)
        out.folder(output)
