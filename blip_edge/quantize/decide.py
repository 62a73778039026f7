"""What becomes of each layer, by the recipe and by what calibration shows, before any metric.

The steps are told apart because training to be rounded comes between ranges and doubts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from blip_edge.models.folder import Model
from blip_edge.models.quantized import LayerDecision, quantizable_layers, quantizable_tables
from blip_edge.progress import SILENT, Progress
from blip_edge.quantize.calibrate import calibrate, few
from blip_edge.quantize.engines import Span, find_ranges, no_metric
from blip_edge.quantize.modes import form_of, layer_decision, table_decision
from blip_edge.quantize.observers import observer
from blip_edge.quantize.outliers import report, survey
from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.quantize.sensitivity import layer_sqnr
from blip_edge.quantize.smoothing import smooth
from blip_edge.quantize.uses import Use

__all__ = ["decide", "doubted", "evened_out", "ranged"]

# Pictures on which outliers are looked for and smoothing is searched, in a dozen passes.
_SURVEYED = 32


def decide(
    model: Model,
    seen: Sequence[Use],
    recipe: QuantizeRecipe,
    *,
    progress: Progress = SILENT,
) -> dict[str, LayerDecision]:
    """What calibration alone says of each quantizable layer, by path, in the network's order."""
    layers = ranged(model, seen, recipe, progress=progress)
    return doubted(model, seen, layers, recipe, progress=progress)


def ranged(
    model: Model,
    seen: Sequence[Use],
    recipe: QuantizeRecipe,
    judge: Callable[[dict[str, LayerDecision]], float] = no_metric,
    *,
    progress: Progress = SILENT,
) -> dict[str, LayerDecision]:
    """What `recipe` says of each layer and word table, with the ranges of what layers read.

    `judge` gives the metric with decisions, and of none the float model's: observer "autotune" goes
    by it.
    """
    linears, tables = quantizable_layers(model.blip), quantizable_tables(model.blip)

    def decided(spans: Mapping[str, Span | None]) -> dict[str, LayerDecision]:
        found = {path: table_decision(path, table, recipe) for path, table in tables.items()}
        for path, linear in linears.items():
            found[path] = layer_decision(path, linear, spans.get(path), recipe)
        return found

    if not any(form_of(path, recipe) == "static" for path in linears):
        return decided({})
    if recipe.engine == "blip-edge":
        make = partial(observer, recipe.own_observer, percentile=recipe.percentile)
        return decided(calibrate(model, seen, make, progress=progress))

    def metric(spans: Mapping[str, Span | None]) -> float:
        return judge(decided(spans) if spans else {})

    return decided(find_ranges(model, seen, recipe, metric, progress=progress))


def doubted(
    model: Model,
    seen: Sequence[Use],
    decisions: Mapping[str, LayerDecision],
    recipe: QuantizeRecipe,
    *,
    progress: Progress = SILENT,
) -> dict[str, LayerDecision]:
    """The decisions with what each layer loses by them, and without those that lose too much."""
    layers = dict(decisions)
    if recipe.sensitivity == "none":
        return layers
    for path, db in layer_sqnr(model, seen, layers, progress=progress).items():
        layers[path] = replace(layers[path], sqnr_db=round(db, 2))
        if recipe.sensitivity == "sqnr" and db < recipe.floor_db:
            bits = layers[path].weight_bits
            why = f"{db:.1f} dB in {bits} bits, under the floor of {recipe.floor_db:g}"
            layers[path] = layers[path].as_float(why)
    return layers


def evened_out(
    model: Model, seen: Sequence[Use], recipe: QuantizeRecipe, *, progress: Progress = SILENT
) -> tuple[dict[str, float | None] | None, dict[str, dict[str, Any]] | None]:
    """Smooth `model`, in place, if the recipe says so, and report the outliers of 8-bit inputs.

    Returns:
        The two fields of `Quantization`, smoothing and outliers; None each where there is nothing.
    """
    forms = {path: form_of(path, recipe) for path in quantizable_layers(model.blip)}
    paths = [path for path, form in forms.items() if form in ("static", "dynamic")]
    if not paths:
        return None, None
    part = few(seen, _SURVEYED)
    before = survey(model, part, paths, progress=progress)
    if recipe.smooth == "none":
        return None, report(before)
    smoothing = smooth(model, part, before, recipe, progress=progress)
    return smoothing, report(before, survey(model, part, paths, progress=progress))
