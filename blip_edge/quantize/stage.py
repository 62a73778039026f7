"""`quantize`: a MODEL to the same MODEL with a decision for each layer, measured.

The weights stay float32 in the folder; quantization.json says how they are rounded, and whoever
exports or evaluates the model derives the same integers from it.
"""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from blip_edge.artifact import kind, write_json, write_provenance, writing
from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError, ToleranceError
from blip_edge.evaluation import EvalSettings, evaluate
from blip_edge.models.folder import Model, load_model, save_model
from blip_edge.models.quantized import (
    LayerDecision,
    Quantization,
    apply_quantization,
    weight_bytes,
)
from blip_edge.progress import SILENT, Progress
from blip_edge.quantize.calibrate import Seen, calibrate, decode, pick
from blip_edge.quantize.card import write_card
from blip_edge.quantize.observers import affine, observer
from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.quantize.sensitivity import layer_sqnr
from blip_edge.quantize.trial import Measure, Outcome, Trial
from blip_edge.training.stage import provenance

__all__ = ["Measure", "decide", "quantize"]

_SPLIT, _METRIC = "val", "CIDEr"
# A tolerance should be worth at least so many captions, or it judges chance.
_CAPTIONS = 5


def quantize(
    model: Path,
    data: Path,
    output: Path,
    recipe: QuantizeRecipe | None = None,
    *,
    seed: int = 0,
    force: bool = False,
    progress: Progress = SILENT,
    measure: Measure | None = None,
) -> Path:
    """Decide, layer by layer, what computes in 8 bits, and write `model` with that to `output`.

    Ranges are taken from train pictures of `data`, the loss is measured on its val split; the test
    split is not touched.

    Args:
        model: a MODEL folder of a captioner; what an earlier quantization decided is ignored.
        data: a DATA folder.
        output: the MODEL folder to write, with quantization.json and metrics.json.
        recipe: its defaults if None.
        seed: chooses the calibration pictures.
        force: replace `output` if it is there.
        progress: told what is going on.
        measure: gives the CIDEr of a MODEL folder; `evaluation.evaluate` on the val split if None.

    Returns:
        `output`.

    Raises:
        ArtifactError: `model` or `data` is not what it should be.
        ToleranceError: the loss is over the tolerance; the result is kept as `OUT.rejected`.
    """
    started, recipe = time.monotonic(), recipe or QuantizeRecipe()
    original, dataset = _captioner(Path(model)), Dataset.open(data)
    with writing(output, force=force) as draft:
        save_model(draft, original)
        items = _items(dataset, recipe, progress)
        seen = _look(original, dataset, recipe, seed, progress)
        layers = decide(original, seen, recipe, progress=progress)
        trial = Trial(draft, layers, measure or _cider(data, recipe, progress), recipe, progress)
        outcome = trial.run()
        quantization = _describe(original, dataset, seen, outcome, recipe, items)
        quantization.save(draft)
        _write_metrics(draft, quantization)
        write_card(draft, Path(model), quantization)
        write_provenance(
            draft,
            provenance(
                "quantize", recipe, dataset, [Path(model)], started, outcome.history, seed=seed
            ),
        )
        if outcome.missed:
            raise ToleranceError(outcome.verdict)
    progress.say(outcome.verdict)
    return output


def decide(
    model: Model,
    seen: list[Seen],
    recipe: QuantizeRecipe,
    *,
    progress: Progress = SILENT,
) -> dict[str, LayerDecision]:
    """What calibration alone says of each quantizable layer, by path, in the network's order."""
    make = partial(observer, recipe.observer, percentile=recipe.percentile)
    spans = calibrate(model, seen, make, progress=progress)
    layers = {path: _decision(span, recipe) for path, span in spans.items()}
    if recipe.sensitivity == "none":
        return layers
    for path, db in layer_sqnr(model, seen, layers, progress=progress).items():
        layers[path] = replace(layers[path], sqnr_db=round(db, 2))
        if recipe.sensitivity == "sqnr" and db < recipe.floor_db:
            why = f"{db:.1f} dB in 8 bits, under the floor of {recipe.floor_db:g}"
            layers[path] = layers[path].as_float(why)
    return layers


def _decision(span: tuple[float, float] | None, recipe: QuantizeRecipe) -> LayerDecision:
    if span is None:
        return LayerDecision(decision="float", why="captioning does not run it: no range is known")
    scale, zero = affine(*span)
    return LayerDecision(
        decision="int8",
        weight_bits=8,
        activation_bits=8,
        input_scale=scale,
        input_zero_point=zero,
        input_range=span,
        why=f"linear layer of a block, range by {recipe.observer}",
    )


def _captioner(folder: Path) -> Model:
    if (found := kind(folder)) != "model":
        raise ArtifactError(f"{folder} is a {found}; quantize takes a model folder")
    model = load_model(folder)
    if not model.config.captions:
        raise ArtifactError(
            f"{folder} is a {model.config.architecture}; only models that caption are quantized"
        )
    return model


def _look(
    model: Model, dataset: Dataset, recipe: QuantizeRecipe, seed: int, progress: Progress
) -> list[Seen]:
    pixels = pick(
        dataset, model.preprocess, samples=recipe.samples, seed=seed, max_bad=recipe.max_bad
    )
    if len(pixels) < recipe.samples:
        progress.say(f"calibrating on {len(pixels)} pictures: {dataset.folder} has no more")
    return decode(model, pixels, batch=recipe.batch, progress=progress)


def _items(dataset: Dataset, recipe: QuantizeRecipe, progress: Progress) -> int:
    """How many pictures the metric is measured on, with a word when they are too few."""
    if not recipe.eval_items:
        return 0
    items = min(recipe.eval_items, len(dataset.captions(_SPLIT)))
    if 0 < items * recipe.tolerance < _CAPTIONS:
        progress.say(
            f"warning: on {items} pictures a few changed captions cost more than the tolerance of "
            f"{recipe.tolerance:.2%}, whatever the layers do; measure on more"
        )
    return items


def _cider(data: Path, recipe: QuantizeRecipe, progress: Progress) -> Measure:
    def measure(folder: Path) -> float:
        how = EvalSettings(batch=recipe.batch, limit=recipe.eval_items, max_bad=recipe.max_bad)
        found = evaluate(
            folder,
            Path(data),
            task="caption",
            split=_SPLIT,
            how=how,
            progress=progress,
        )
        return float(found.metrics[_METRIC])

    return measure


def _describe(
    model: Model,
    dataset: Dataset,
    seen: list[Seen],
    outcome: Outcome,
    recipe: QuantizeRecipe,
    items: int,
) -> Quantization:
    """What was decided; `model` computes in 8 bits afterwards."""
    samples, observed, metric = sum(len(part.pixels) for part in seen), recipe.observer, None
    if outcome.metric is not None:
        metric = {"name": _METRIC, "split": _SPLIT, "items": items, **outcome.metric}
    quantization = Quantization(
        mode=recipe.mode,
        layers=outcome.layers,
        observer=f"{observed} {recipe.percentile:g}" if observed == "percentile" else observed,
        samples=samples,
        data={"name": dataset.name, "sha256": dataset.digest(), "items": samples},
        metric=metric,
    )
    before = weight_bytes(model.blip)
    after = weight_bytes(apply_quantization(model.blip, quantization))
    return replace(quantization, weight_bytes=after, float_weight_bytes=before)


def _write_metrics(draft: Path, quantization: Quantization) -> None:
    found, data = quantization.metric, quantization.data
    if found is None or data is None:
        return
    write_json(
        draft / "metrics.json",
        {
            "task": "caption",
            "split": _SPLIT,
            "items": found["items"],
            "data": {"name": data["name"], "sha256": data["sha256"]},
            "precision": "int8",
            "metrics": {_METRIC: found["int8"]},
            "float": {_METRIC: found["float"]},
        },
    )
