"""`quantize`: a MODEL to the same MODEL with a decision for each layer, measured.

The weights stay float32 in the folder; quantization.json says how they are rounded, and whoever
exports or evaluates the model derives the same integers from it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blip_edge.artifact import kind, write_json, write_provenance, writing
from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError, ToleranceError
from blip_edge.evaluation import EvalSettings, evaluate
from blip_edge.models.decisions import FILE
from blip_edge.models.folder import Model, load_model, save_model
from blip_edge.models.quantized import (
    LayerDecision,
    Quantization,
    apply_quantization,
    weight_bytes,
)
from blip_edge.progress import SILENT, Progress
from blip_edge.quantize.aware import trained_rounded
from blip_edge.quantize.calibrate import decode, pick
from blip_edge.quantize.card import write_card
from blip_edge.quantize.decide import doubted, evened_out, ranged
from blip_edge.quantize.engines import require
from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.quantize.trial import Measure, Outcome, Trial
from blip_edge.quantize.uses import Judged, Use, judged_by, uses_of
from blip_edge.runtime.engine import Task
from blip_edge.training.work import provenance

__all__ = ["Measure", "quantize"]

# A tolerance should be worth at least so many items, or it judges chance.
_ITEMS = 5
# Fewer pictures or rows than so many are warned of.
_FEW = 16


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
        model: a MODEL folder; what an earlier quantization decided is ignored.
        data: a DATA folder; mode qat trains on its train split.
        output: the MODEL folder to write, with quantization.json and metrics.json.
        recipe: its defaults if None.
        seed: chooses the calibration pictures, and of mode qat the rows' order.
        force: replace `output` if it is there.
        progress: told what is going on.
        measure: gives the metric of a MODEL folder: CIDEr, r_mean, vqa_accuracy or accuracy, as
            the model's task has it; `evaluation.evaluate` on the val split (NLVR2's dev) if None.

    Returns:
        `output`.

    Raises:
        ArtifactError: `model` or `data` is not what it should be.
        MissingExtraError: the recipe's engine is not installed.
        ToleranceError: the loss is over the tolerance; the result is kept as `OUT.rejected`.
    """
    started, recipe = time.monotonic(), recipe or QuantizeRecipe()
    require(recipe.engine)
    original, dataset = _model(Path(model)), Dataset.open(data)
    judged = judged_by(original)
    with writing(output, force=force, reads=(model, data)) as draft:
        items = _items(dataset, judged, recipe, progress)
        seen = _look(original, judged.task, dataset, recipe, seed, progress)
        smoothing, outliers = evened_out(original, seen, recipe, progress=progress)
        save_model(draft, original)
        measure = measure or _measured(judged, data, recipe, progress)
        judge = _judge(draft, recipe, measure, progress)
        layers = ranged(original, seen, recipe, judge, progress=progress)
        start = measure(draft) if recipe.mode == "qat" and recipe.eval_items else None
        curve: list[dict[str, float]] = []
        if recipe.mode == "qat":
            original, curve = trained_rounded(
                original, Path(data), layers, recipe, seed=seed, progress=progress
            )
            save_model(draft, original)
        layers = doubted(original, seen, layers, recipe, progress=progress)
        outcome = Trial(draft, layers, measure, recipe, progress, start=start).run()
        quantization = replace(
            _describe(original, dataset, seen, outcome.layers, recipe),
            metric=_about(judged, items, outcome),
            smoothing=smoothing,
            outliers=outliers,
        )
        quantization.save(draft)
        _write_metrics(draft, judged.task, quantization, outcome.history)
        write_card(draft, Path(model), quantization)
        history = [*curve, *outcome.history]
        made = provenance("quantize", recipe, dataset, [Path(model)], started, history, seed=seed)
        write_provenance(draft, made)
        if outcome.missed:
            raise ToleranceError(outcome.verdict)
    progress.say(outcome.verdict)
    return output


def _model(folder: Path) -> Model:
    if (found := kind(folder)) != "model":
        raise ArtifactError(f"{folder} is a {found}; quantize takes a model folder")
    model = load_model(folder)
    for name, weight in model.blip.named_parameters():
        if not weight.isfinite().all():
            raise ArtifactError(f"{folder}: weight {name} has values that are not finite numbers")
    return model


def _look(
    model: Model,
    task: Task,
    dataset: Dataset,
    recipe: QuantizeRecipe,
    seed: int,
    progress: Progress,
) -> list[Use]:
    samples, max_bad = recipe.samples, recipe.max_bad
    if task == "caption":
        pixels = pick(dataset, model.preprocess, samples=samples, seed=seed, max_bad=max_bad)
        found, what = len(pixels), "pictures"
        seen: list[Use] = [*decode(model, pixels, batch=recipe.batch, progress=progress)]
    else:
        seen = uses_of(task, dataset, model.preprocess, samples=samples, seed=seed, max_bad=max_bad)
        found, what = len(seen), "rows"
    if found < samples:
        progress.say(f"calibrating on {found} {what}: {dataset.folder} has no more")
    if found < _FEW:
        progress.say(
            f"warning: {found} {what} show little of what a layer may read; what lies outside the "
            f"ranges is cut off, so calibrate on {_FEW} or more"
        )
    return seen


def _items(dataset: Dataset, judged: Judged, recipe: QuantizeRecipe, progress: Progress) -> int:
    """How many items the metric is measured on, with a word when they are too few."""
    if not recipe.eval_items:
        return 0
    rows: dict[Task, Callable[[str], Sequence[object]]] = {
        "caption": dataset.captions,
        "retrieval": dataset.retrieval,
        "vqa": dataset.questions,
        "nlvr2": dataset.sentences,
    }
    items = min(recipe.eval_items, len(rows[judged.task](judged.split)))
    if 0 < items * recipe.tolerance < _ITEMS:
        progress.say(
            f"warning: of {items} items a few that change cost more than the tolerance of "
            f"{recipe.tolerance:.2%}, whatever the layers do; measure on more"
        )
    return items


def _measured(judged: Judged, data: Path, recipe: QuantizeRecipe, progress: Progress) -> Measure:
    def measure(folder: Path) -> float:
        found = evaluate(
            folder,
            Path(data),
            task=judged.task,
            split=judged.split,
            how=EvalSettings(batch=recipe.batch, limit=recipe.eval_items, max_bad=recipe.max_bad),
            progress=progress,
        )
        return float(found.metrics[judged.metric])

    return measure


def _judge(
    draft: Path, recipe: QuantizeRecipe, measure: Measure, progress: Progress
) -> Callable[[dict[str, LayerDecision]], float]:
    """The metric of the float model in `draft` with decisions, which leave no trace there."""

    def judge(layers: dict[str, LayerDecision]) -> float:
        if not layers:
            return measure(draft)
        Quantization(mode=recipe.mode, layers=layers).save(draft)
        metric = measure(draft)
        progress.say(f"{recipe.engine} tries: {metric:.2f}")
        (draft / FILE).unlink()
        return metric

    return judge


def _describe(
    model: Model,
    dataset: Dataset,
    seen: Sequence[Use],
    layers: dict[str, LayerDecision],
    recipe: QuantizeRecipe,
) -> Quantization:
    """What was decided; `model` computes in 8 bits afterwards."""
    observed, samples = recipe.range_observer, sum(part.pictures for part in seen)
    quantization = Quantization(
        mode=recipe.mode,
        layers=layers,
        engine=recipe.engine,
        observer=f"{observed} {recipe.percentile:g}" if observed == "percentile" else observed,
        samples=samples,
        data={"name": dataset.name, "sha256": dataset.digest(), "items": samples},
    )
    before = weight_bytes(model.blip)
    after = weight_bytes(apply_quantization(model.blip, quantization))
    return replace(quantization, weight_bytes=after, float_weight_bytes=before)


def _about(judged: Judged, items: int, outcome: Outcome) -> dict[str, Any] | None:
    """The measurement that the decisions rest on, None without one."""
    if outcome.metric is None:
        return None
    return {"name": judged.metric, "split": judged.split, "items": items, **outcome.metric}


def _write_metrics(
    draft: Path, task: Task, quantization: Quantization, curve: list[dict[str, float]]
) -> None:
    """metrics.json, with all that was measured on the way to it."""
    found, data = quantization.metric, quantization.data
    if found is None or data is None:
        return
    write_json(
        draft / "metrics.json",
        {
            "task": task,
            "split": found["split"],
            "items": found["items"],
            "data": {"name": data["name"], "sha256": data["sha256"]},
            "precision": quantization.precision,
            "metrics": {found["name"]: found["int8"]},
            "float": {found["name"]: found["float"]},
            "curve": curve,
        },
    )
