"""The verbs about speed: bench, and the page that shows quality and speed together."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from blip_edge.artifact import require_writable
from blip_edge.cli import options
from blip_edge.cli.output import Output, complain, table
from blip_edge.errors import ToleranceError, UsageError

if TYPE_CHECKING:
    from blip_edge.benchmarks import Record
    from blip_edge.benchmarks.devices.find import WebSettings
    from blip_edge.runtime.asked import Asked
    from blip_edge.runtime.engine import Task

__all__ = ["app"]

app = typer.Typer()

_SHOWN = 5  # operators of a graph on the terminal; a record has more


@app.command(
    rich_help_panel="Use",
    epilog=options.examples(
        "blip-edge bench runs/quickstart/onnx-teacher runs/quickstart/onnx --compare",
        "blip-edge bench runs/quickstart/onnx --device ssh:pi@raspberrypi -o latency.json",
        "blip-edge bench runs/quickstart/onnx --device browser --lan",
        "blip-edge bench runs/quickstart/onnx --mode normal --gate latency.json --slower 1.05",
    ),
)
def bench(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="Exported bundles.")],
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="local, ssh:[USER@]HOST[:PORT], browser[:PROGRAM], adb:SERIAL, coreml:local or "
            "coreml:DEVICE.",
        ),
    ] = "local",
    mode: Annotated[
        Literal["quick", "normal", "submission", "sustained"] | None,
        typer.Option("--mode", help="How long: a built-in recipe by its purpose."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Ask what its test split asks; the bundle's own golden pictures if not given.",
        ),
    ] = None,
    task: Annotated[
        Literal["caption", "retrieval", "vqa", "nlvr2"] | None,
        typer.Option("--task", help="What they are asked; the first that all can do if not given."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.json", help="Write all raw times there too."),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", metavar="", help="Each bundle's factor to the first, with an interval."
        ),
    ] = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", metavar="", help="The operators that take the time, too."),
    ] = False,
    gate: Annotated[
        Path | None,
        typer.Option(
            "--gate", metavar="OLD.json", help="Fail where a bundle is slower than it was there."
        ),
    ] = None,
    slower: Annotated[
        float | None,
        typer.Option("--slower", metavar="X", help="The factor that --gate lets pass; 1.05."),
    ] = None,
    lan: Annotated[
        bool,
        typer.Option("--lan", metavar="", help="browser: let a phone on this network open it."),
    ] = False,
    web_runtime: Annotated[
        Path | None,
        typer.Option(
            "--web-runtime",
            metavar="FOLDER",
            help="browser: onnxruntime-web's dist folder; fetched by npm if not given.",
        ),
    ] = None,
    web_backend: Annotated[
        Literal["wasm", "webgpu"] | None,
        typer.Option("--web-backend", help="browser: what computes; wasm if not given."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            min=1,
            help="Processor threads; the physical cores if not given.",
        ),
    ] = None,
    recipe: options.Recipe = None,
    set_: options.Set = None,
    seed: options.UnusedSeed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure speed and memory on this machine or another device, several bundles side by side."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.benchmarks import BenchRecipe, save
        from blip_edge.benchmarks import bench as run
        from blip_edge.benchmarks.devices import find_device
        from blip_edge.benchmarks.gate import require_comparable
        from blip_edge.cli.recipes import overrides
        from blip_edge.recipe import load

        if output is not None:
            require_writable(output, force=force)
        if mode and recipe:
            raise UsageError("--mode is a built-in --recipe; give one of the two")
        if slower is not None and gate is None:
            raise UsageError("--slower is for --gate; add it")
        if quiet and device == "browser":
            raise UsageError(
                "--quiet hides the page's address; leave it out, or give browser:PROGRAM"
            )
        factor = 1.05 if slower is None else slower
        place = find_device(device, _web(lan, web_runtime, web_backend), complain)
        if gate is not None:  # what cannot be compared with shall not cost a measurement
            require_comparable(gate, bundles, place.name, slower=factor)
        records = run(
            bundles,
            device=place,
            recipe=load(BenchRecipe, "benchmarks", mode or recipe, overrides(set_)),
            task=task,
            asked=None if data is None else _asked(bundles, data, task),
            threads=threads,
            compare=compare,
            profile=profile,
            progress=out.progress,
        )
        rejected = None if gate is None else _rejected(records, gate, factor, out)
        if output is not None:
            file = output if rejected is None else output.with_name(f"{output.name}.rejected")
            save(records, file)
            if rejected is not None:
                raise ToleranceError(f"{rejected}; the records are kept at {file}")
        if rejected is not None:
            raise rejected
        text = _latencies(records, compare)
        out.result(records, "\n\n".join([text, *_operators(records)]))
        for record in records:
            for line in _remarks(record):
                out.progress.say(f"{record['name']}: {line}")


def _rejected(
    records: "list[Record]", gate: Path, slower: float, out: Output
) -> ToleranceError | None:
    """What a gate that does not let the records pass says."""
    from blip_edge.benchmarks import gate as hold

    try:
        for note in hold(records, gate, slower=slower):
            out.progress.say(f"note: {note}")
    except ToleranceError as error:
        return error
    return None


def _remarks(record: "Record") -> Iterator[str]:
    """What the table has no column for."""
    from blip_edge.benchmarks.wording import timed

    if minutes := record["p50_by_minute_ms"]:
        medians = ", ".join(f"{median:.1f}" for median in minutes)
        yield f"p50 ms, minute by minute: {medians}"
    for stage, reached in (record["reached"] or {}).items():
        yield f"{stage} reaches {reached['share']:.0%} of the roof"
    if (joules := record["joules_per_caption"]) is not None:
        yield f"{joules:.3g} joules {timed(record)}"
    yield from record["notes"]


def _web(
    lan: bool, runtime: Path | None, backend: Literal["wasm", "webgpu"] | None
) -> "WebSettings | None":
    from blip_edge.benchmarks.devices.find import WebSettings

    if not lan and runtime is None and backend is None:
        return None
    return WebSettings(lan=lan, runtime=runtime, backend=backend or "wasm")


def _asked(bundles: list[Path], data: Path, task: "Task | None") -> "list[Asked]":
    from blip_edge.benchmarks.measuring import common_task
    from blip_edge.benchmarks.rows import bundle_facts
    from blip_edge.data import Dataset
    from blip_edge.evaluation.asked import asked_of

    task = common_task([bundle_facts(bundle) for bundle in bundles], task)
    return list(asked_of(Dataset.open(data), task))


def _latencies(records: "Sequence[Record]", compare: bool) -> str:
    head = ("bundle", "target", "precision", "MB", "p50 ms", "p90 ms", "tokens/s", "peak MB")
    rows = [_latency_row(dict(record)) for record in records]
    if not compare:
        return table(rows, head=head)
    factors = [_factor(dict(record), first=not place) for place, record in enumerate(records)]
    rows = [(*row, factor) for row, factor in zip(rows, factors, strict=True)]
    return table(rows, head=(*head, "times as slow (95 %)"))


def _operators(records: "Sequence[Record]") -> list[str]:
    """A table for each bundle whose engine told, of the first few operators of each graph."""
    tables = []
    for record in records:
        seen, rows = Counter[str](), []
        for row in record["operators"] or ():
            seen[row["graph"]] += 1
            if seen[row["graph"]] <= _SHOWN:
                times = (str(row["calls"]), f"{row['ms']:.2f}", f"{row['share']:.1%}")
                rows.append((row["graph"], row["name"], row["type"], *times, row["where"]))
        if rows:
            head = (record["name"], "operator", "type", "calls", "ms", "share", "where")
            tables.append(table(rows, head=head))
    return tables


def _factor(record: dict[str, Any], *, first: bool) -> str:
    if first:
        return "1"
    found = record["compared"]
    return "-" if not found else "{ratio:.2f} ({low:.2f} to {high:.2f})".format(**found)


def _latency_row(record: dict[str, Any]) -> tuple[str, ...]:
    peak = record["peak_memory_bytes"]
    return (
        record["name"],
        record["target"],
        record["precision"],
        f"{record['bytes'] / 1e6:.1f}",
        _number(record["p50_ms"]),
        _number(record["p90_ms"]),
        _number(record["tokens_per_s"]),
        _number(peak / 1e6 if peak else None),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


@app.command(
    rich_help_panel="Use",
    epilog=options.examples(
        "blip-edge report runs/quickstart -o report.html",
        "blip-edge report here.json phone.json --against old.json -o report.html",
    ),
)
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Folders that `quickstart` wrote, files that `bench -o` wrote, or a dataset that "
            "`capfilt` wrote.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="Where the page goes.")
    ],
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", metavar="OLD", help="A former RUN; the page says what has become worse."
        ),
    ] = None,
    seed: options.UnusedSeed = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write one page with the tables and plots of a run; it needs no network and no scripts."""
    with Output(json=json, quiet=quiet) as out:
        from blip_edge.benchmarks import report_run
        from blip_edge.benchmarks.capfilt_page import capfilt_page, is_bootstrapped

        bootstrapped = [run for run in runs if is_bootstrapped(run)]
        if bootstrapped and (len(runs) > 1 or against is not None):
            raise UsageError(f"{bootstrapped[0]} has a page of its own; give it alone")
        if bootstrapped:
            page = capfilt_page(runs[0], output, force=force)
        else:
            page = report_run(runs, output, against=against, force=force)
        out.result({"report": page, "bytes": page.stat().st_size}, str(page))
