"""The verbs that ask a model or a bundle: caption, vqa, match, reason."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blip_edge.cli import options
from blip_edge.cli.output import Output, table
from blip_edge.cli.pictures import Pictures
from blip_edge.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from blip_edge.runtime.captioning import Search

__all__ = ["app"]

app = typer.Typer()

_Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A bundle (needs no torch) or a model folder.")
]
_Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture file.")]
_MinLength = Annotated[
    int | None,
    typer.Option("--min-length", metavar="N", min=0, help="In tokens, counting the prompt."),
]
_MaxLength = Annotated[
    int | None,
    typer.Option("--max-length", metavar="N", min=2, help="In tokens, counting the prompt."),
]


@app.command(
    rich_help_panel="Use",
    epilog=options.examples(
        "blip-edge caption runs/quickstart/onnx cat.jpg dog.jpg",
        "blip-edge caption runs/quickstart/onnx photos --beams 1 > captions.tsv",
        "blip-edge caption runs/quickstart/onnx cat.jpg --sample --captions 5 --seed 7",
    ),
)
def caption(
    model: _Model,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Picture files, and folders of them."),
    ],
    beams: options.Beams = None,
    captions: Annotated[
        int, typer.Option("--captions", metavar="N", min=1, help="Captions of each picture.")
    ] = 1,
    min_length: _MinLength = None,
    max_length: _MaxLength = None,
    length_penalty: Annotated[
        float | None,
        typer.Option("--length-penalty", metavar="X", help="Above 1 favours longer captions."),
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option("--repetition-penalty", metavar="X", help="Above 1 avoids words said before."),
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", metavar="", help="Draw words at random; see --seed.")
    ] = False,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            metavar="P",
            help="With --sample: from the likeliest words that reach P together; 0.9 as in BLIP.",
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", metavar="K", help="With --sample: from the K likeliest words."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", metavar="T", help="With --sample: below 1 dares less."),
    ] = None,
    max_bad: Annotated[
        float,
        typer.Option(
            "--max-bad",
            metavar="SHARE",
            min=0,
            max=1,
            help="Share of the pictures in folders that may be unreadable.",
        ),
    ] = 0.01,
    threads: options.Threads = None,
    seed: options.Seed = 0,
    force: options.UnusedForce = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what pictures show: the path, a tab and the caption, one line a caption, as they come.

    A picture that cannot be read is left out and named on stderr. The exit code is 3 if it was
    asked for by its name, or if it is one too many of those in folders.
    """
    how: Search = {
        "beams": beams,
        "min_length": min_length,
        "max_length": max_length,
        "length_penalty": length_penalty,
        "repetition_penalty": repetition_penalty,
        "sample": sample or None,
        "top_p": top_p,
        "top_k": top_k,
        "temperature": temperature,
    }
    with Output(json=json, quiet=quiet) as out:
        from blip_edge import load

        captioner = load(model, threads=threads)
        pictures = Pictures(images, max_bad=max_bad)
        found = captioner.captions_of(
            pictures.paths, captions, seed=seed, skip=pictures.skip, **how
        )
        with out.rows() as row:
            for path, said in pictures.tracked(found, out.progress):
                for one in said:
                    facts = {"image": str(path), "caption": one.text, "score": one.score}
                    row(facts, f"{path}\t{one.text}")
        if pictures.report():
            raise typer.Exit(ArtifactError.exit_code)


@app.command(
    rich_help_panel="Use",
    epilog=options.examples(
        'blip-edge vqa models/vqa photo.jpg "how many dogs are there?"',
        'blip-edge vqa models/vqa photo.jpg "what colour is it?" --answers answer_list.json',
    ),
)
def vqa(
    model: _Model,
    image: _Image,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="About the picture.")],
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers",
            metavar="FILE.json",
            help="Rank this list of strings; the answer is generated without it.",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", metavar="N", min=1, help="With --answers: only the N likeliest."),
    ] = None,
    beams: options.Beams = None,
    min_length: _MinLength = None,
    max_length: _MaxLength = None,
    legacy: Annotated[
        bool,
        typer.Option(
            "--legacy", metavar="", help="Rank by the label-smoothed loss, as BLIP's own program."
        ),
    ] = False,
    threads: options.Threads = None,
    seed: options.UnusedSeed = 0,
    force: options.UnusedForce = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer a question about a picture, or rank given answers: the answer, a tab, its probability.

    Of a list, the probability is that among the 128 answers with the likeliest first words.
    """
    if top is not None and answers is None:
        raise UsageError("--top goes with --answers")
    searched = {"--beams": beams, "--min-length": min_length, "--max-length": max_length}
    idle = [flag for flag, value in searched.items() if value is not None]
    if idle and answers is not None:
        raise UsageError(f"{idle[0]} is for answers that are generated; --answers ranks a list")
    with Output(json=json, quiet=quiet) as out:
        from blip_edge import load
        from blip_edge.data.files import answers as listed

        choice = None if answers is None else listed(answers)
        answerer = load(model, threads=threads)
        if choice is not None:
            found = answerer.answer(image, question, choice, legacy=legacy)[:top]
        else:
            found = [
                answerer.answer(
                    image,
                    question,
                    legacy=legacy,
                    beams=beams,
                    min_length=min_length,
                    max_length=max_length,
                )
            ]
        asked = {"image": str(image), "question": question}
        out.result([{**asked, "answer": one.text, "score": one.score} for one in found])
        for one in found:
            out.line(f"{one.text}\t{one.score:.4f}")


@app.command(
    rich_help_panel="Use",
    epilog=options.examples(
        'blip-edge match models/matcher photo.jpg "a dog on a beach" "a cat on a sofa"',
        'blip-edge match models/matcher photo.jpg "a dog" --heatmap where.png',
    ),
)
def match(
    model: _Model,
    image: _Image,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="What it may show.")],
    heatmap: Annotated[
        Path | None,
        typer.Option(
            "--heatmap",
            metavar="FILE.png",
            help="Draw where each text is in the picture; needs a model folder.",
        ),
    ] = None,
    legacy: Annotated[
        bool,
        typer.Option(
            "--legacy", metavar="", help="Read the texts from [CLS] on, as BLIP's released matcher."
        ),
    ] = False,
    threads: options.Threads = None,
    seed: options.UnusedSeed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say how well texts fit a picture: the probability that they match, and their cosine."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge import load

        found = load(model, threads=threads).match(image, texts, legacy=legacy)
        if heatmap is not None:
            _heatmap(model, image, texts, heatmap, force=force)
        rows = [
            {"image": str(image), "text": one.text, "itc": one.itc, "itm": one.itm} for one in found
        ]
        cells = [(f"{one.itm:.4f}", f"{one.itc:.4f}", one.text) for one in found]
        out.result(rows, table(cells, head=("match", "cosine", "text")))
        if heatmap is not None:
            out.progress.say(f"heatmap: {heatmap}")


def _heatmap(model: Path, image: Path, texts: list[str], output: Path, *, force: bool) -> None:
    from blip_edge.artifact import kind
    from blip_edge.errors import import_extra

    if kind(model) != "model":
        raise ArtifactError(f"{model} is a bundle; --heatmap needs gradients, and a model folder")
    import_extra("torch", "train")
    from blip_edge.models.heatmap import draw_heatmaps

    draw_heatmaps(model, image, texts, output, force=force)


@app.command(
    rich_help_panel="Use",
    epilog=options.examples(
        'blip-edge reason models/nlvr2 left.jpg right.jpg "both pictures show a dog"'
    ),
)
def reason(
    model: _Model,
    left: Annotated[Path, typer.Argument(metavar="LEFT", help="A picture file.")],
    right: Annotated[Path, typer.Argument(metavar="RIGHT", help="Another one.")],
    sentence: Annotated[str, typer.Argument(metavar="SENTENCE", help="About both.")],
    legacy: Annotated[
        bool,
        typer.Option(
            "--legacy",
            metavar="",
            help="Let chance swap the pictures first, as BLIP's own program does.",
        ),
    ] = False,
    threads: options.Threads = None,
    seed: options.Seed = 0,
    force: options.UnusedForce = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say whether a sentence is true of two pictures, and the probability of that."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge import load

        reasoner = load(model, threads=threads)
        found = reasoner.reason(left, right, sentence, legacy=legacy, seed=seed)
        facts = {"images": [str(left), str(right)], "sentence": sentence}
        out.result({**facts, "label": found.label, "score": found.score})
        out.line(f"{found.label}\t{found.score:.4f}")
