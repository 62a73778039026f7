"""What channels that are far out do to 8 bits, and what brings a model back from it.

    python benchmarks/outlier_quantization.py MODEL DATA -o quantize/outliers.json
        [--factor 30 60] [--channels 4] [--limit N] [--seed N] [--set key=value]...

The gains and biases of all LayerNorms of the image tower are made factor times as large in some
channels, and the weights that read them smaller by the same, so that the float model answers as
before. Then it is quantized as it is (min-max), with smoothing, and with layers that fall back to
float; each is measured on the test split. The record has the metrics with their intervals, the
share that is lost, and the layers in 8 bits.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from blip_edge.artifact import sha256_folder, write_json
from blip_edge.benchmarks.machine import machine
from blip_edge.data.dataset import Dataset
from blip_edge.errors import ToleranceError
from blip_edge.evaluation import EvalSettings, evaluate
from blip_edge.metrics import Bootstrap
from blip_edge.models import load_model
from blip_edge.models.folder import Model, save_model
from blip_edge.models.quantized import Quantization
from blip_edge.quantize import QuantizeRecipe, quantize
from blip_edge.quantize.folds import folds_of
from blip_edge.quantize.uses import judged_by
from blip_edge.recipe import load

WAYS = {
    "plain": ["observer=min-max", "smooth=none", "sensitivity=none"],
    "smoothing": ["observer=min-max", "smooth=search", "sensitivity=none"],
    "fall-back": ["observer=min-max", "smooth=none", "sensitivity=metric"],
    "both": ["observer=min-max", "smooth=search", "sensitivity=metric"],
}


def with_outliers(model: Model, *, factor: float, channels: int, seed: int) -> Model:
    """The model, in place, with `channels` of what each LayerNorm says `factor` times as large."""
    generator = torch.Generator().manual_seed(seed)
    for fold in folds_of(model.blip):
        if isinstance(fold.made_by, nn.LayerNorm):
            scales = torch.ones(fold.readers[0].in_features)
            scales[torch.randperm(len(scales), generator=generator)[:channels]] = 1 / factor
            fold.apply(scales)
    return model


def measured(given: argparse.Namespace, factor: float) -> dict[str, Any]:
    """The float model, the one with outliers, and what each way of quantizing it leaves."""
    model = load_model(given.model)
    judged = judged_by(model)

    def metric(folder: Path) -> dict[str, Any]:
        how = EvalSettings(limit=given.limit, ci=Bootstrap())
        found = evaluate(folder, given.data, task=judged.task, split="test", how=how)
        said = found.as_json()
        interval = said["intervals"].get(judged.metric)
        return {"items": found.items, "value": said["metrics"][judged.metric], "ci95": interval}

    with TemporaryDirectory(prefix="outliers-") as name:
        scaled = Path(name) / "scaled"
        scaled.mkdir()
        sizes = {"factor": factor, "channels": given.channels, "seed": given.seed}
        save_model(scaled, with_outliers(model, **sizes))
        start = metric(given.model)
        rows = {"float": {**start, "lost": 0.0}, "float, scaled": row(metric(scaled), start)}
        for way, told in WAYS.items():
            recipe = load(QuantizeRecipe, "quantize", overrides=[*told, *given.set])
            folder = quantized(scaled, given.data, Path(name) / way, recipe, given.seed)
            found = Quantization.load(folder)
            layers = {"int8_layers": len(found.int8_layers), "layers": len(found.layers)}
            rows[way] = {**row(metric(folder), start), **layers}
            print(way, rows[way], flush=True)
    return {"metric": judged.metric, "task": judged.task, "rows": rows, **sizes}


def quantized(model: Path, data: Path, output: Path, recipe: QuantizeRecipe, seed: int) -> Path:
    """The folder that was written, be it good enough or not."""
    try:
        return quantize(model, data, output, recipe, seed=seed)
    except ToleranceError:
        return output.with_name(f"{output.name}.rejected")


def row(found: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
    """A metric, and the share of the float one that is lost."""
    return {**found, "lost": round(1 - found["value"] / start["value"], 5)}


def table(found: dict[str, Any]) -> str:
    """One factor's part of the record in Markdown."""
    lines = [
        f"| × {found['factor']:g} | {found['metric']} | lost | layers in 8 bits |",
        "|---|---|---|---|",
    ]
    for name, each in found["rows"].items():
        count = f"{each['int8_layers']} of {each['layers']}" if "layers" in each else ""
        lines.append(f"| {name} | {each['value']:.2f} | {each['lost']:.1%} | {count} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write the record and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RECORD.json")
    parser.add_argument("--factor", type=float, nargs="+", default=[30.0, 60.0])
    parser.add_argument("--channels", type=int, default=4, help="of each LayerNorm")
    parser.add_argument("--limit", type=int, help="items of the test split; all if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    runs = [measured(given, factor) for factor in given.factor]
    data = Dataset.open(given.data)
    about = {
        "machine": asdict(machine()),
        "model": {"sha256": sha256_folder(given.model)},
        "data": {"name": data.name, "sha256": data.digest()},
        "split": "test",
        "set": given.set,
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.output, {**about, "runs": runs})
    print("\n\n".join(map(table, runs)))


if __name__ == "__main__":
    main()
