"""The verbs that make models: import, train, distill, prune, quantize."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from blip_edge.cli import options
from blip_edge.cli.output import Output
from blip_edge.errors import import_extra

__all__ = ["app"]

app = typer.Typer()

_Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder.")]
_Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="Keep what the teacher tells, and do not ask it again: made, or used if there.",
    ),
]


@app.command(
    "import",
    rich_help_panel="Build",
    epilog=options.examples(
        "blip-edge import Salesforce/blip-image-captioning-base -o models/base",
        "blip-edge import model_base.pth --task caption --tokenizer vocab.txt -o models/base",
    ),
)
def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A folder or hub name of Hugging Face's BLIP, or its authors' .pth file.",
        ),
    ],
    output: options.Output,
    task: Annotated[
        Literal["caption", "retrieval", "vqa", "nlvr2", "pretrain"] | None,
        typer.Option("--task", help="What it is for; as its tensors say if not given."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="A vocab.txt, a tokenizer.json or a folder with one."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size", metavar="PIXELS", min=1, help="Interpolate positions to this size."
        ),
    ] = None,
    seed: options.UnusedSeed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Take over pretrained BLIP weights as a model folder."""
    with Output(json=json, quiet=quiet) as out:
        import_extra("torch", "train")
        from blip_edge.models.importing import import_model

        import_model(
            source,
            output,
            task=task,
            tokenizer=tokenizer,
            image_size=image_size,
            force=force,
            progress=out.progress,
        )
        out.folder(output)
        out.next("blip-edge", *_after_import(output))


def _after_import(model: Path) -> tuple[str | Path, ...]:
    """What such a model is for."""
    from blip_edge.cli.describe import ask_of, describe

    match describe(model)["architecture"]:
        case "BlipForPreTraining":
            return ("train", "--task", "caption", "--data", "DATA", "--init", model, "-o", "TUNED")
        case "BlipForConditionalGeneration":
            return ("export", model, "--target", "onnx", "-o", "BUNDLE")
        case _:
            return ask_of(model)


@app.command(
    rich_help_panel="Build",
    epilog=options.examples(
        "blip-edge train --data data/shapes --recipe shapes-caption -o models/teacher",
        "blip-edge train --task caption --data data/coco --init models/base -o models/tuned",
        "blip-edge train --data data/coco --vision-init vit.pth --text-init bert -o models/new",
        "blip-edge train --task pretrain --data data/coco --web 'laion-{00000..11499}.tar' -o new",
    ),
)
def train(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DATA|TARS",
            help="A dataset folder, or WebDataset tars as for --web.",
        ),
    ],
    output: options.Output,
    task: Annotated[
        Literal["pretrain", "caption", "retrieval", "vqa", "nlvr2", "visdial"] | None,
        typer.Option("--task", help="What to learn; the recipe's task if not given."),
    ] = None,
    init: Annotated[
        Path | None, typer.Option("--init", metavar="MODEL", help="A model to start from.")
    ] = None,
    web: Annotated[
        list[str] | None,
        typer.Option(
            "--web",
            metavar="TARS",
            help="WebDataset tars to read pairs from too, such as 'web-{0000..0127}.tar'; can be "
            "repeated.",
        ),
    ] = None,
    vision_init: Annotated[
        Path | None,
        typer.Option(
            "--vision-init",
            metavar="FILE",
            help="A pretrained ViT to start from: timm's, DeiT's or DINOv2's weights.",
        ),
    ] = None,
    text_init: Annotated[
        Path | None,
        typer.Option(
            "--text-init",
            metavar="FOLDER",
            help="A pretrained BERT to start from, in Hugging Face's form.",
        ),
    ] = None,
    device: options.TrainDevice = "auto",
    log_dir: options.LogDir = None,
    resume: options.Resume = False,
    recipe: options.Recipe = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a model for a task, from nothing, from pretrained towers or from another model."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.cli.recipes import overrides
        from blip_edge.recipe import load

        import_extra("torch", "train")
        from blip_edge.training import TrainRecipe
        from blip_edge.training import train as run
        from blip_edge.training.processes import rank

        how = load(TrainRecipe, "train", recipe, overrides(set_, task=task))
        run(
            data,
            output,
            how,
            web=web or (),
            init=init,
            vision_init=vision_init,
            text_init=text_init,
            resume=resume,
            seed=seed,
            force=force,
            device=device,
            log_dir=log_dir,
            progress=out.progress,
        )
        if rank() > 0:
            return  # the first process speaks for all
        out.folder(output)
        if how.task == "caption":
            out.next("blip-edge", "distill", output, "--data", data, "-o", "STUDENT")
        else:
            out.next("blip-edge", *_after_import(output))


@app.command(
    rich_help_panel="Build",
    epilog=options.examples(
        "blip-edge distill models/teacher --data data/shapes --student shapes-25 -o models/small",
        "blip-edge distill models/base --student edge-s --data data/coco --vocab-from data/coco "
        "--set said=0.5 --resume -o models/edge-s",
    ),
)
def distill(
    teacher: Annotated[Path, typer.Argument(metavar="TEACHER", help="The model to learn from.")],
    data: options.Data,
    output: options.Output,
    student: Annotated[
        str | None,
        typer.Option(
            "--student", metavar="NAME|FILE.toml", help="The student's sizes; see `recipe`."
        ),
    ] = None,
    vocab_from: Annotated[
        Path | None,
        typer.Option("--vocab-from", metavar="DATA", help="Keep only this data set's words."),
    ] = None,
    store: _Store = None,
    device: options.TrainDevice = "auto",
    log_dir: options.LogDir = None,
    resume: options.Resume = False,
    recipe: options.Recipe = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Teach a smaller model to answer as a larger one does."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.cli.recipes import overrides
        from blip_edge.recipe import load

        import_extra("torch", "train")
        from blip_edge.distill import DistillRecipe
        from blip_edge.distill import distill as run
        from blip_edge.training.processes import rank

        how = load(DistillRecipe, "distill", recipe, [*_sizes(student), *overrides(set_)])
        run(
            teacher,
            data,
            output,
            how,
            vocab_from=vocab_from,
            store=store,
            resume=resume,
            seed=seed,
            force=force,
            device=device,
            log_dir=log_dir,
            progress=out.progress,
        )
        if rank() > 0:
            return  # the first process speaks for all
        out.folder(output)
        out.next(*_quantize(output, data))


def _quantize(model: Path, data: Path) -> tuple[str | Path, ...]:
    """The next step, which reads a dataset folder; tars it does not."""
    folder = data if data.is_dir() else "DATA"
    return ("blip-edge", "quantize", model, "--data", folder, "-o", "QUANTIZED")


def _sizes(student: str | None) -> list[str]:
    """The sizes of a preset, as what it changes of the distillation's recipe."""
    from dataclasses import asdict

    from blip_edge.cli.recipes import stage_of
    from blip_edge.models.student import StudentSizes
    from blip_edge.recipe import load

    if student is None:
        return []
    sizes = load(StudentSizes, stage_of("student"), student)
    return [f"{key}={str(size).lower()}" for key, size in asdict(sizes).items() if size]


@app.command(
    rich_help_panel="Build",
    epilog=options.examples(
        "blip-edge prune models/small --keep 0.5 --per latency --data data/shapes -o models/fast",
        "blip-edge prune models/small --keep 0.5 --even --data data/shapes -o models/smaller",
    ),
)
def prune(
    model: _Model,
    data: options.Data,
    output: options.Output,
    keep: Annotated[
        float | None,
        typer.Option("--keep", metavar="SHARE", help="Share that stays, of what --per names."),
    ] = None,
    per: Annotated[
        Literal["parameters", "macs", "latency"] | None,
        typer.Option("--per", help="What is saved; latency is measured on this machine."),
    ] = None,
    even: Annotated[
        bool | None,
        typer.Option(
            "--even", metavar="", help="Cut the same share of every layer, wherever it hurts."
        ),
    ] = None,
    tokens: Annotated[
        float | None,
        typer.Option("--tokens", metavar="SHARE", help="Merge image tokens down to this share."),
    ] = None,
    store: _Store = None,
    device: options.TrainDevice = "auto",
    log_dir: options.LogDir = None,
    resume: options.Resume = False,
    recipe: options.Recipe = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Cut heads, neurons, channels and layers out, so that the tensors are smaller for real."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.cli.recipes import overrides
        from blip_edge.recipe import load

        import_extra("torch", "train")
        from blip_edge.distill import PruneRecipe
        from blip_edge.distill import prune as run
        from blip_edge.training.processes import rank

        given = overrides(set_, keep=keep, per=per, even=even, tokens=tokens)
        how = load(PruneRecipe, "distill", recipe, given)
        run(
            model,
            data,
            output,
            how,
            store=store,
            resume=resume,
            seed=seed,
            force=force,
            device=device,
            log_dir=log_dir,
            progress=out.progress,
        )
        if rank() > 0:
            return  # the first process speaks for all
        out.folder(output)
        out.next(*_quantize(output, data))


@app.command(
    rich_help_panel="Build",
    epilog=options.examples(
        "blip-edge quantize models/small --data data/shapes -o models/small-int8",
        "blip-edge quantize models/small --data data/shapes --tolerance 0.005 -o models/small-int8",
    ),
)
def quantize(
    model: _Model,
    data: options.Data,
    output: options.Output,
    mode: Annotated[
        Literal["static", "dynamic", "weight-only", "qat"] | None,
        typer.Option("--mode", help="What is stored in 8 bits, and when its scales are found."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="SHARE",
            min=0,
            help="Share of the float metric that may be lost.",
        ),
    ] = None,
    recipe: options.Recipe = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find 8-bit scales layer by layer, and keep in float what 8 bits would spoil."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.cli.recipes import overrides
        from blip_edge.recipe import load

        import_extra("torch", "train")
        from blip_edge.quantize import QuantizeRecipe
        from blip_edge.quantize import quantize as run

        given = overrides(set_, mode=mode, tolerance=tolerance)
        how = load(QuantizeRecipe, "quantize", recipe, given)
        run(model, data, output, how, seed=seed, force=force, progress=out.progress)
        out.folder(output)
        out.next("blip-edge", "export", output, "--target", "onnx", "-o", "BUNDLE")
