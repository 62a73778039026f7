"""The facts of a folder as a few lines of text."""

from collections.abc import Callable, Mapping
from typing import Any

from blip_edge.cli.output import table

__all__ = ["size_text", "tell"]

Rows = list[tuple[str, str]]


def tell(facts: Mapping[str, Any]) -> str:
    """What `describe` found, one fact a line."""
    rows: Rows = [(facts["kind"], facts["folder"])]
    rows += _TELLERS[facts["kind"]](facts)
    rows += _made_by(facts.get("made_by") or [])
    # A space before each value keeps the column to the left, numbers or not.
    return table([(name, f" {value}") for name, value in rows])


def size_text(number: float, unit: str = "") -> str:
    """1234567 as `1.23 M`: three figures and a decimal prefix."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {prefix}{unit}"
    return f"{number:.0f} {unit}".rstrip()


def _model(facts: Mapping[str, Any]) -> Rows:
    rows = [
        ("architecture", f"{facts['architecture']} ({facts['model_type']})"),
        ("parameters", size_text(facts["parameters"])),
        ("size", size_text(facts["bytes"], "B")),
        ("vision", _tower(facts["vision"], "{} px, ", "image_size")),
        ("text", _tower(facts["text"], "{} words, ", "vocab_size")),
    ]
    if facts.get("quantization"):
        rows.append(("quantized", "yes, layer by layer in quantization.json"))
        rows += _ranges(facts["quantization"])
        rows += _outliers(facts["quantization"])
    return rows + _quality(facts.get("metrics"))


def _ranges(quantization: Mapping[str, Any]) -> Rows:
    """Who found them, where it was not this package."""
    engine = quantization.get("engine") or "blip-edge"
    if engine == "blip-edge":
        return []
    return [("ranges", f"{quantization.get('observer')}, found by {engine}")]


def _outliers(quantization: Mapping[str, Any]) -> Rows:
    """What was smoothed, and the layer whose input has most channels that are far out."""
    rows = []
    if (alphas := quantization.get("smoothing")) is not None:
        count = sum(alpha is not None for alpha in alphas.values())
        rows.append(("smoothed", f"{count} of {len(alphas)} places that allow it"))
    table = quantization.get("outliers") or {}
    outlying = {path: each for path, each in table.items() if each["far_out"]}
    if table:
        said = f"{len(outlying)} of {len(table)} layers have channels far out"
        if alphas is not None:
            left = sum(each["smoothed"]["far_out"] > 0 for each in table.values())
            said += f" ({left} after smoothing)"
        if outlying:
            most = max(outlying, key=lambda path: outlying[path]["far_out"])
            said += f", most of them {most}: {_far_out(outlying[most])}"
        rows.append(("outliers", said))
    return rows


def _far_out(layer: Mapping[str, Any]) -> str:
    before, after = layer["far_out"], layer.get("smoothed")
    left = "" if after is None else f", {after['far_out']} after smoothing"
    return f"{before} of {layer['channels']}{left}"


def _tower(sizes: Mapping[str, Any], first: str, key: str) -> str:
    layers, heads = sizes["num_hidden_layers"], _span(sizes["num_attention_heads"])
    return (
        first.format(sizes[key])
        + f"{layers} layer{'' if layers == 1 else 's'} {sizes['hidden_size']} wide, "
        + f"{heads} head{'' if heads == '1' else 's'}, {_span(sizes['intermediate_size'])} neurons"
    )


def _span(value: Any) -> str:
    """One number for all layers, or the range of those that differ."""
    if not isinstance(value, list):
        return str(value)
    return str(value[0]) if len(set(value)) == 1 else f"{min(value)} to {max(value)}"


def _bundle(facts: Mapping[str, Any]) -> Rows:
    from blip_edge.benchmarks.wording import timed

    rows = [("runs on", f"{facts['target']}, {facts['precision']}")]
    said: set[str] = set()
    for name, graph in facts["graphs"].items():
        ops = graph.get("ops") or {}
        share = f", {ops['int8']} operators in int8" if ops.get("int8") else ""
        size = "the same" if graph["file"] in said else size_text(graph["bytes"], "B")
        said.add(graph["file"])
        rows.append((name, f"{graph['file']}, {size}{share}"))
    rows += _quality(facts.get("quality"))
    for record in facts["latency"]:
        if record.get("p50_ms") is not None:
            machine = (record.get("device") or {}).get("cpu", "unknown machine")
            rows.append(("latency", f"{record['p50_ms']:.1f} ms {timed(record)} (p50), {machine}"))
    return rows


def _data(facts: Mapping[str, Any]) -> Rows:
    dataset = facts["dataset"]
    rows = [(key, str(dataset[key])) for key in ("name", "version", "license") if key in dataset]
    counts = dataset.get("counts") or {}
    rows += [(name, f"{count:,}") for name, count in counts.items() if isinstance(count, int)]
    return rows


def _run(facts: Mapping[str, Any]) -> Rows:
    from blip_edge.benchmarks.report import verdict

    summary = facts["summary"]
    rows = [(name, _stage(row)) for name, row in summary.get("stages", {}).items()]
    rows += [(name, _stage(row)) for name, row in summary.get("bundles", {}).items()]
    rows.append(("in short", verdict(summary)))
    rows += [(key, str(summary[key])) for key in ("report",) if key in summary]
    if "seconds" in summary:
        rows.append(("took", f"{summary['seconds'] / 60:.1f} minutes"))
    return rows


def _stage(row: Mapping[str, Any]) -> str:
    """One model or bundle of a run, with what was measured of it."""
    parts = [str(row["precision"])] if "precision" in row else []
    if "parameters" in row:
        parts.append(f"{size_text(row['parameters'])} parameters")
    if "bytes" in row:
        parts.append(size_text(row["bytes"], "B"))
    parts += [f"{key} {row[key]:.4g}" for key in ("CIDEr", "truth") if row.get(key) is not None]
    if row.get("p50_ms") is not None:
        parts.append(f"{row['p50_ms']:.1f} ms a caption")
    return ", ".join(parts)


def _index(facts: Mapping[str, Any]) -> Rows:
    return [
        ("pictures", f"{facts['images']} in {facts['pictures']}"),
        ("model", str((facts["model"] or {}).get("path"))),
    ]


_TELLERS: dict[str, Callable[[Mapping[str, Any]], Rows]] = {
    "model": _model,
    "bundle": _bundle,
    "data": _data,
    "run": _run,
    "index": _index,
}


def _quality(document: Mapping[str, Any] | None) -> Rows:
    """A model's metrics.json, or the one metric that a bundle's manifest carries."""
    if not document:
        return []
    metrics, before = document.get("metrics") or {}, document.get("float")
    if "name" in document:
        metrics, before = {document["name"]: document.get("int8")}, {document["name"]: before}
    where = f"on {document['split']} ({document['items']})" if "split" in document else ""
    rows = []
    for name, value in metrics.items():
        if isinstance(value, int | float):
            was = (before or {}).get(name)
            unquantized = f", in float {was:.4g}" if isinstance(was, int | float) else ""
            rows.append((name, f"{value:.4g} {where}".rstrip() + unquantized))
    return rows


def _made_by(chain: list[Mapping[str, Any]]) -> Rows:
    rows = []
    for link in chain:
        data = (link.get("data") or {}).get("name")
        seen = f" on {data}" if data else ""
        rows.append(
            ("made by", f"{link['verb']}{seen} in {link['seconds']:.0f} s: {link['folder']}")
        )
    return rows
