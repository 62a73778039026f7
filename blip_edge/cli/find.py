"""The verbs that search in one's own pictures."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blip_edge.cli import options
from blip_edge.cli.output import Output

__all__ = ["app"]

app = typer.Typer()


@app.command(
    rich_help_panel="Use",
    epilog=options.examples(
        "blip-edge index models/matcher ~/photos -o photos-index",
        "blip-edge search photos-index 'a dog on a beach'",
    ),
)
def index(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A bundle or a model folder for retrieval.")
    ],
    pictures: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of pictures.")],
    output: options.Output,
    max_bad: Annotated[
        float,
        typer.Option(
            "--max-bad",
            metavar="SHARE",
            min=0,
            max=1,
            help="Share of pictures that may be unreadable.",
        ),
    ] = 0.01,
    threads: options.Threads = None,
    seed: options.UnusedSeed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Embed every picture of a folder, so that texts can be looked up in it."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.artifact import read_json
        from blip_edge.runtime.picture_index import index_pictures

        index_pictures(
            model,
            pictures,
            output,
            max_bad=max_bad,
            threads=threads,
            force=force,
            progress=out.progress,
        )
        found = len(read_json(output / "index.json")["images"])
        out.result({"index": str(output), "images": found}, f"{found} pictures: {output}")
        out.next("blip-edge", "search", output, "a dog on a beach")


@app.command(
    rich_help_panel="Use",
    epilog=options.examples(
        "blip-edge search photos-index 'a dog on a beach'",
        "blip-edge search photos-index 'a red car' --limit 3 --json",
    ),
)
def search(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="What `index` wrote.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is looked for.")],
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="MODEL", help="If the model is elsewhere by now."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Pictures that are wanted.")
    ] = 10,
    k: Annotated[
        int,
        typer.Option(
            "--k", metavar="K", min=0, help="The nearest so many are read with the text; 0: none."
        ),
    ] = 64,
    threads: options.Threads = None,
    seed: options.UnusedSeed = 0,
    force: options.UnusedForce = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the pictures that fit a text best: probability, cosine and path, one line each."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.runtime.picture_index import PictureIndex

        found = PictureIndex(index, model=model, threads=threads).search(text, limit=limit, k=k)
        for hit in found:
            itm = "–" if hit.itm is None else f"{hit.itm:.3f}"
            out.line(f"{itm}\t{hit.itc:.3f}\t{hit.image}")
        out.result([asdict(hit) for hit in found])
