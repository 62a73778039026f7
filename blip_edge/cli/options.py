"""Flags that several verbs share, each declared once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = [
    "Beams",
    "Data",
    "Force",
    "Json",
    "LogDir",
    "Output",
    "Quiet",
    "Recipe",
    "Resume",
    "Seed",
    "Set",
    "Threads",
    "TrainDevice",
    "UnusedForce",
    "UnusedSeed",
    "examples",
]

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the result goes.")
]
Data = Annotated[Path, typer.Option("--data", metavar="DATA", help="A dataset folder.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE.toml",
        help="A built-in recipe (`blip-edge recipe` lists them) or a file of your own.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one recipe key; can be repeated."),
]


def _seed(value: int) -> int:
    # Not as the option's range, which every help page would print.
    if not 0 <= value < 2**63:
        raise typer.BadParameter(f"{value} is not a whole number from 0 to 2**63 - 1")
    return value


Seed = Annotated[
    int,
    typer.Option(
        "--seed", metavar="N", callback=_seed, help="The same seed gives the same result."
    ),
]
Force = Annotated[
    bool, typer.Option("--force", metavar="", help="Replace the output if it is there.")
]
Beams = Annotated[
    int | None,
    typer.Option("--beams", metavar="N", min=1, help="1 is greedy search. As saved if not given."),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        help="Processor threads; the engine's own choice if not given.",
    ),
]
TrainDevice = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option("--device", help="Where it is trained; auto is the fastest there is."),
]
LogDir = Annotated[
    Path | None,
    typer.Option("--log-dir", metavar="FOLDER", help="Write the curves there for TensorBoard."),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        metavar="",
        help="Go on with a killed run from its last checkpoint (recipe key save_every).",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", metavar="", help="Print exactly one JSON document on stdout.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", metavar="", help="Nothing on stderr but errors.")
]

# Scripts may pass the same flags to every verb; where nothing is random or written, they do nothing
# and stay out of the help.
UnusedSeed = Annotated[int, typer.Option("--seed", hidden=True)]
UnusedForce = Annotated[bool, typer.Option("--force", hidden=True)]


def examples(*lines: str) -> str:
    """A help page's epilog: one example a line."""
    return "\n".join(["[bold]Examples[/bold]", *lines])
