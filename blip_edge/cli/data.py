"""The verbs that make and check dataset folders."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from blip_edge.cli import options
from blip_edge.cli.output import Output, table
from blip_edge.errors import ArtifactError, UsageError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make and check dataset folders.")
_make = typer.Typer(
    no_args_is_help=True, help="Make a dataset folder out of nothing, or of public packages."
)
app.add_typer(_make, name="make")

# The names of blip_edge.data.prepare, which is too slow to import for a page of help.
_Official = Literal[
    "coco",
    "flickr30k",
    "vqa",
    "nlvr2",
    "nocaps",
    "visdial",
    "msrvtt",
    "msvd-qa",
    "cc",
    "ovad",
]


@_make.command(
    epilog=options.examples(
        "blip-edge data make shapes -o data/shapes",
        "blip-edge data make shapes -o data/easy --objects 1 --set textures=1 --set image_size=48",
    )
)
def shapes(
    output: options.Output,
    train: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Pictures to train on.")
    ] = None,
    val: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Pictures to choose with.")
    ] = None,
    test: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Pictures to measure with.")
    ] = None,
    objects: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Most things in a picture.")
    ] = None,
    recipe: options.Recipe = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw a world of coloured shapes, with captions, questions and dialogues that are true."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.cli.recipes import overrides
        from blip_edge.data.shapes import ShapesRecipe, make
        from blip_edge.recipe import load

        given = overrides(set_, train=train, val=val, test=test, objects=objects)
        made = load(ShapesRecipe, "data", recipe, given)
        make(output, made, seed=seed, force=force, progress=out.progress)
        out.folder(output)
        out.next("blip-edge", "train", "--data", output, "-o", "MODEL")


_From = Annotated[
    list[Path] | None,
    typer.Option(
        "--from",
        metavar="FILE|FOLDER",
        help="The package, or a folder unpacked from it; it is downloaded if not given.",
    ),
]
_Size = Annotated[
    int, typer.Option("--size", metavar="N", min=16, help="Pixels of a picture's longest side.")
]


@_make.command(epilog=options.examples("blip-edge data make stamps -o data/stamps"))
def stamps(
    output: options.Output,
    packages: _From = None,
    size: _Size = 256,
    png_only: Annotated[
        bool,
        typer.Option("--png-only", metavar="", help="Leave out drawings that need rsvg-convert."),
    ] = False,
    seed: options.UnusedSeed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Real pictures with a sentence each: Tux Paint's stamps, out of Debian's package."""
    with Output(json=json, quiet=quiet) as out:
        _pictures("stamps", output, packages, size, not png_only, force, out)


@_make.command(epilog=options.examples("blip-edge data make openmoji -o data/openmoji"))
def openmoji(
    output: options.Output,
    packages: _From = None,
    size: _Size = 256,
    seed: options.UnusedSeed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Drawn things with their names: OpenMoji, out of npm's package."""
    with Output(json=json, quiet=quiet) as out:
        _pictures("openmoji", output, packages, size, True, force, out)


@_make.command(
    epilog=options.examples(
        "blip-edge data make picturebook -o data/picturebook",
        "blip-edge data make picturebook --from stamps.deb --from openmoji.tgz -o book",
    )
)
def picturebook(
    output: options.Output,
    packages: _From = None,
    size: _Size = 256,
    seed: options.UnusedSeed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Tux Paint's stamps and OpenMoji in one data set, split by their names."""
    with Output(json=json, quiet=quiet) as out:
        _pictures("picturebook", output, packages, size, True, force, out)


@_make.command(epilog=options.examples("blip-edge data make openclipart -o data/openclipart"))
def openclipart(
    output: options.Output,
    packages: _From = None,
    size: _Size = 256,
    seed: options.UnusedSeed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Drawings with texts as noisy as the web's: Open Clip Art, out of Debian's package."""
    with Output(json=json, quiet=quiet) as out:
        _pictures("openclipart", output, packages, size, True, force, out)


def _pictures(
    name: Literal["stamps", "openmoji", "picturebook", "openclipart"],
    output: Path,
    packages: list[Path] | None,
    size: int,
    drawings: bool,
    force: bool,
    out: Output,
) -> None:
    from blip_edge.data.picturebook import make_pictures

    make_pictures(
        name,
        output,
        packages=packages or (),
        size=size,
        drawings=drawings,
        force=force,
        progress=out.progress,
    )
    out.folder(output)
    if name == "openclipart":
        models = ("--captioner", "M", "--filter", "M")
        out.next("blip-edge", "capfilt", *models, "--data", output, "-o", "CLEAN")
    else:
        out.next("blip-edge", "train", "--data", output, "-o", "MODEL")


@app.command(
    epilog=options.examples(
        "blip-edge data prepare coco dataset_coco.json --images downloads/coco -o data/coco",
        "blip-edge data prepare vqa downloads/vqa --images downloads/coco -o data/vqa",
        "blip-edge data prepare cc train.tsv --mapping got.tsv --images downloads/cc -o data/cc",
    )
)
def prepare(
    name: Annotated[_Official, typer.Argument(help="The data set.")],
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SRC", help="The official files, or folders that hold them."),
    ],
    output: options.Output,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="What the pictures or clips are below; they are linked to. Without it the "
            "annotations alone are written.",
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="cc: a table of addresses and files below --images. msvd-qa: its list of names.",
        ),
    ] = None,
    min_answers: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="vqa: answers most frequent for N questions are ranked."
        ),
    ] = 9,
    max_bad: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0, max=1, help="Entries of a file that may be unusable."),
    ] = 0.01,
    seed: options.UnusedSeed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a dataset folder out of a data set's official downloads."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.data.prepare import prepare as run

        run(
            name,
            sources,
            output,
            images=images,
            mapping=mapping,
            min_answers=min_answers,
            max_bad=max_bad,
            force=force,
            progress=out.progress,
        )
        out.folder(output)
        out.next("blip-edge", "data", "check", output)


@app.command(
    epilog=options.examples(
        "blip-edge data check data/shapes", 'blip-edge data check "laion/{00000..00499}.tar"'
    )
)
def check(
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA", help="A dataset folder, or WebDataset tars."),
    ],
    seed: options.UnusedSeed = 0,
    force: options.UnusedForce = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read every annotation and every picture, and say what is wrong with which."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.data import check as check_folder
        from blip_edge.data import check_shards

        if Path(data[0]).suffix in (".tar", ".gz", ".tgz"):
            found = check_shards(data, progress=out.progress)
        elif len(data) == 1:
            found = check_folder(data[0], progress=out.progress)
        else:
            raise UsageError(f"give one dataset folder, or tars, not {' '.join(data)}")
        for bad in found.bad:
            out.line(f"{bad.file}{'' if bad.row is None else f' row {bad.row}'}: {bad.reason}")
        rows = [(name, f"{count:,}") for name, count in found.rows.items()]
        out.result(
            {"ok": found.ok, "rows": found.rows, "images": found.images, "bad": found.bad},
            table([*rows, ("pictures and clips", f"{found.images:,}")]),
        )
        if not found.ok:
            raise ArtifactError(f"{' '.join(data)}: {len(found.bad)} rows or files cannot be used")
