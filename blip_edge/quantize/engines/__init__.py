"""Who finds the ranges that layers read: packages made for quantization, behind one function.

    spans = find_ranges(model, seen, recipe)

Each looks at the float model in use as one network (`whole`), with its own observers; what it found
becomes the same decisions as ours, so that sensitivity, fall-back, tolerance and the exporters need
not know who found it. Weights are rounded as `quantized_layers` says, whoever found the ranges.
"""

import math
from collections.abc import Sequence
from typing import Protocol

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models.folder import Model
from blip_edge.models.quantized import quantizable_layers
from blip_edge.progress import SILENT, Progress
from blip_edge.quantize.engines import neural_compressor, nncf, onnxruntime
from blip_edge.quantize.engines.neural_compressor import Judge
from blip_edge.quantize.engines.steps import Span
from blip_edge.quantize.recipe import EngineName, QuantizeRecipe
from blip_edge.quantize.uses import Use

__all__ = ["Judge", "Span", "find_ranges", "no_metric", "require"]


class _Engine(Protocol):
    def require(self) -> object:
        """Import what it needs.

        Raises:
            MissingExtraError: something is not installed.
        """
        ...

    def find_ranges(
        self, model: Model, seen: Sequence[Use], recipe: QuantizeRecipe, judge: Judge
    ) -> dict[str, Span | None]:
        """The range of each product's input, by the path of its layer."""
        ...


_ENGINES: dict[EngineName, _Engine] = {
    "neural-compressor": neural_compressor,
    "nncf": nncf,
    "onnxruntime": onnxruntime,
}


def require(engine: EngineName) -> None:
    """Import an engine's packages, before time is spent on what it will need.

    Raises:
        MissingExtraError: one is not installed.
    """
    if engine != "blip-edge":
        _ENGINES[engine].require()


def no_metric(_: object) -> float:
    """A judge where nobody can judge.

    Raises:
        UsageError: always.
    """
    raise UsageError('observer "autotune" needs a metric to go by')


def find_ranges(
    model: Model,
    seen: Sequence[Use],
    recipe: QuantizeRecipe,
    judge: Judge = no_metric,
    *,
    progress: Progress = SILENT,
) -> dict[str, Span | None]:
    """The range of each quantizable layer's input as `recipe.engine` finds it, by path.

    None where it found none: the task does not run the layer, or the engine keeps it in float.

    Args:
        model: a float model.
        seen: what it is used for.
        recipe: of an engine other than our own.
        judge: what neural-compressor's autotune goes by.
        progress: told who is at work, as none of them tells how far it is.

    Raises:
        MissingExtraError: the engine is not installed.
        ArtifactError: a range is not finite.
    """
    progress.say(f"{recipe.engine} looks for ranges: {recipe.range_observer}")
    found = _ENGINES[recipe.engine].find_ranges(model, seen, recipe, judge)
    spans = {path: found.get(path) for path in quantizable_layers(model.blip)}
    for path, span in spans.items():
        if span is not None and not all(map(math.isfinite, span)):
            raise ArtifactError(
                f"the model cannot be calibrated: {recipe.engine} found the range {span} for the "
                f"input of {path}"
            )
    return spans
