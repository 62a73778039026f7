"""The verbs that only look: what a folder is, what this machine can do, which recipes there are."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from blip_edge.cli import options
from blip_edge.cli.output import Output, table
from blip_edge.errors import UsageError

__all__ = ["app"]

app = typer.Typer()


@app.command(
    rich_help_panel="Look",
    epilog=options.examples(
        "blip-edge inspect runs/quickstart/student",
        "blip-edge inspect models/tuned --memory --set batch=8 --set recompute=true",
        "blip-edge inspect --preset large --memory --recipe pretrain-129m-large",
        "blip-edge inspect --student edge-s --device epyc-zen4-2core",
    ),
)
def inspect(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Any folder a verb wrote.")
    ] = None,
    memory: Annotated[
        bool,
        typer.Option("--memory", metavar="", help="Say what training it would need of memory."),
    ] = False,
    preset: Annotated[
        Literal["base", "large"] | None,
        typer.Option("--preset", help="Instead of FOLDER: BLIP's published sizes, no weights."),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            "--student",
            metavar="NAME|FILE.toml",
            help="Say what this student of FOLDER would cost (`blip-edge recipe` lists students).",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME|FILE.toml",
            help="With --student: whose roofline; this machine's if not given.",
        ),
    ] = None,
    recipe: options.Recipe = None,
    set_: options.Set = None,
    seed: options.UnusedSeed = 0,
    force: options.UnusedForce = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what a folder is: kind, sizes, quality, speed, and what it was made from."""
    with Output(json=json, quiet=quiet) as out:
        if memory and student:
            raise UsageError("--memory and --student are two questions; ask one")
        if device and not student:
            raise UsageError("--device is for --student; add it")
        if student:
            from blip_edge.cli.student import student_facts, tell_student

            if recipe:
                raise UsageError(
                    "--recipe is for --memory; sizes of a student are changed by --set"
                )
            costs = student_facts(student, folder, preset, device or "this", set_)
            out.result(costs, tell_student(costs))
            return
        if memory:
            from blip_edge.cli.memory import memory_facts, tell_memory

            facts = memory_facts(folder, preset, recipe, set_)
            out.result(facts, tell_memory(facts))
            return
        if preset or recipe or set_:
            raise UsageError(
                "--preset and --set are for --memory and --student, --recipe for --memory"
            )
        if folder is None:
            raise UsageError("give a FOLDER, or --preset with --memory or --student")
        out.folder(folder)


@app.command(rich_help_panel="Look", epilog=options.examples("blip-edge doctor"))
def doctor(
    seed: options.UnusedSeed = 0,
    force: options.UnusedForce = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what this machine can do, with measured peaks, and what to install for the rest."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.benchmarks import doctor as run

        found = run()
        out.result(found, _facts(found.machine.to_json()))
        out.line("")
        mark = {True: "yes", False: "no"}
        out.line(
            table(
                [
                    (mark[check.ok], check.group, check.name, check.fix or check.detail)
                    for check in found.checks
                ]
            )
        )
        if not found.ok:
            raise typer.Exit(4)


def _facts(machine: dict[str, Any]) -> str:
    memory = machine["memory_bytes"]
    rows = [
        ("processor", machine["cpu"]),
        ("instructions", f"{machine['arch']} {' '.join(machine['isa'])}"),
        ("cores", f"{machine['cores']}"),
        ("memory", f"{memory / 2**30:.1f} GiB" if memory else "unknown"),
        ("system", f"{machine['os']}, Python {machine['python']}"),
    ]
    if peaks := machine["peaks"]:
        rows.append(("peak", f"{peaks['gemm_gflops']} GFLOP/s in float32"))
        rows.append(("", f"{peaks['copy_gb_per_s']} GB/s from and to memory"))
    return table([(name, f" {value}") for name, value in rows])


@app.command(
    rich_help_panel="Look",
    epilog=options.examples(
        "blip-edge recipe",
        "blip-edge recipe train shapes-caption > mine.toml",
    ),
)
def recipe(
    verb: Annotated[
        str | None, typer.Argument(metavar="VERB", help="The verb that reads the recipe.")
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A recipe's name.")] = None,
    seed: options.UnusedSeed = 0,
    force: options.UnusedForce = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the built-in recipes, or print one, or a verb's defaults, as commented TOML."""
    with Output(json=json, quiet=quiet) as out:
        from dataclasses import asdict

        from blip_edge.cli.recipes import built_in, recipe_class, stage_of
        from blip_edge.recipe import as_toml, load

        if verb is None:
            found = built_in()
            rows = [{"verb": verb, "name": each} for verb, each in found]
            out.result(rows, table(found))
            return
        cls = recipe_class(verb)
        wanted = load(cls, stage_of(verb), name)
        out.result(asdict(wanted), as_toml(cls, wanted).rstrip())
