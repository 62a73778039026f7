"""The verbs that put a model onto a device: export it, and verify what was exported."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from blip_edge.cli import options
from blip_edge.cli.output import Output, table
from blip_edge.errors import UsageError

if TYPE_CHECKING:
    from blip_edge.benchmarks.profiles import DeviceProfile

__all__ = ["app"]

app = typer.Typer()


@app.command(
    rich_help_panel="Ship",
    epilog=options.examples(
        "blip-edge export runs/quickstart/int8 --target onnx -o bundle",
        "blip-edge export runs/quickstart/int8 --target openvino --autotune -o bundle",
        "blip-edge export runs/quickstart/student --target coreml --precision fp16 -o phone",
        "blip-edge export runs/quickstart/int8 --preset rpi5 -o pi",
    ),
)
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder.")],
    output: options.Output,
    target: Annotated[
        Literal["onnx", "openvino", "coreml", "executorch", "huggingface"] | None,
        typer.Option("--target", help="What will run it; --preset's if not given."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="DEVICE",
            help="Target, precision and limits for a device, by its profile's name or file; "
            "recipe and flags win over it.",
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None,
        typer.Option(
            "--precision",
            help="If not given: int8 for a quantized model, else fp32 (Core ML: fp16).",
        ),
    ] = None,
    autotune: Annotated[
        bool | None,
        typer.Option(
            "--autotune",
            metavar="",
            help="Measure the forms of 8 bits on this machine, and keep the fastest that is fit.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="What the bundle must be as good on as the model, and a few pictures that it "
            "carries to verify itself; drawn ones if not given.",
        ),
    ] = None,
    recipe: options.Recipe = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a bundle: one folder with all that a device needs, verified before it is there."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.cli.recipes import overrides
        from blip_edge.errors import import_extra
        from blip_edge.recipe import load

        device = None if preset is None else _preset(preset)
        wanted = target or (device.target if device is not None else None)
        if wanted is None:
            raise UsageError("give --target, or --preset with a device's profile")
        import_extra("torch", "train")
        from blip_edge.cli.describe import ask_of
        from blip_edge.exporters import ExportRecipe
        from blip_edge.exporters import export as run

        given = overrides(set_, precision=precision, autotune=autotune)
        base = None if device is None else device.export_keys()
        how = load(ExportRecipe, "exporters", recipe, given, base)
        run(
            model,
            output,
            target=wanted,
            recipe=how,
            data=data,
            seed=seed,
            force=force,
            progress=out.progress,
        )
        out.folder(output)
        if device is not None and device.target != "coreml":
            out.progress.say(f"{device.title}: run it with {device.threads} threads there")
        out.next("blip-edge", *ask_of(output))


def _preset(name: str) -> "DeviceProfile":
    from blip_edge.benchmarks.profiles import THIS, profile

    if name == THIS:
        raise UsageError("this machine's profile has peaks only; give a preset's name, or --target")
    return profile(name)


@app.command(
    rich_help_panel="Ship",
    epilog=options.examples(
        "blip-edge verify runs/quickstart/onnx",
        "blip-edge verify runs/quickstart/onnx --against runs/quickstart/int8",
    ),
)
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An exported bundle.")],
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="MODEL", help="Compare with this model too."),
    ] = None,
    seed: options.UnusedSeed = 0,
    force: options.UnusedForce = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check a bundle: files unchanged, known pictures give the known captions, share of 8 bits."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.exporters import verify as run

        found = run(bundle, against, progress=out.progress)
        out.result(found, table([(check.name, f" {check.detail}") for check in found.checks]))
