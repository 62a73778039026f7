"""Measure what the decisions cost, and send layers back to float until the cost is bearable."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blip_edge.models.quantized import LayerDecision, Quantization
from blip_edge.progress import Progress
from blip_edge.quantize.fallback import fewest
from blip_edge.quantize.recipe import QuantizeRecipe

__all__ = ["Measure", "Outcome", "Trial"]

Measure = Callable[[Path], float]
"""The quality of a MODEL folder, at the precision that its quantization.json says."""

_BACK = "fall-back: the lowest signal-to-noise ratios go to float until the tolerance holds"


@dataclass(frozen=True)
class Outcome:
    """What was decided in the end, and what it costs."""

    layers: dict[str, LayerDecision]
    missed: bool
    """The loss is over the tolerance."""
    verdict: str
    """The same in a line for people."""
    metric: dict[str, float] | None
    """`{"float", "int8", "loss", "tolerance"}`; None when nothing was measured."""
    history: list[dict[str, float]]
    """`{"float_layers", "metric", "loss"}` of every measurement, in order."""


class Trial:
    """Decisions under test, in a MODEL folder that holds the float model."""

    def __init__(
        self,
        draft: Path,
        layers: dict[str, LayerDecision],
        measure: Measure,
        recipe: QuantizeRecipe,
        progress: Progress,
        *,
        start: float | None = None,
    ) -> None:
        """With `start`, the float model's metric, `draft` may hold other weights than its."""
        self._draft, self._layers, self._measure = draft, layers, measure
        self._recipe, self._progress = recipe, progress
        int8 = [path for path, layer in layers.items() if layer.decision == "int8"]
        # A layer without a ratio is doubted last; sorted() keeps the network's order among equals.
        self._worst_first = sorted(int8, key=lambda path: _ratio(layers[path]))
        self._float, self._start = 0.0, start
        self._measured: dict[int, float] = {}

    def run(self) -> Outcome:
        """Measure float and 8 bits, fall back if the recipe says so, and judge."""
        if not self._recipe.eval_items:
            return Outcome(self._layers, False, f"{self._coverage(0)}; not measured", None, [])
        # No quantization.json is there yet.
        self._float = self._measure(self._draft) if self._start is None else self._start
        if self._float <= 0:
            self._progress.say("warning: the float model scores 0, so that no loss can show")
        count = fewest(self._limit(), self._holds)
        missed = count is None
        if count is None:
            count = min(self._measured, key=lambda n: (self._loss(n), n))
        metric = {
            "float": self._float,
            "int8": self._measured[count],
            "loss": self._loss(count),
            "tolerance": self._recipe.tolerance,
        }
        return Outcome(self._with(count), missed, self._verdict(count), metric, self._history())

    def _limit(self) -> int:
        if self._recipe.sensitivity != "metric":
            return 0
        return math.floor(self._recipe.max_float * len(self._worst_first))

    def _holds(self, count: int) -> bool:
        Quantization(mode=self._recipe.mode, layers=self._with(count)).save(self._draft)
        self._measured[count] = self._measure(self._draft)
        self._progress.say(self._verdict(count))
        return self._loss(count) <= self._recipe.tolerance

    def _with(self, count: int) -> dict[str, LayerDecision]:
        """The decisions with the `count` most doubtful layers in float."""
        back = set(self._worst_first[:count])
        return {p: d.as_float(_BACK) if p in back else d for p, d in self._layers.items()}

    def _loss(self, count: int) -> float:
        """Share of the float metric that is lost; negative when 8 bits happen to be better."""
        return 0.0 if self._float <= 0 else 1 - self._measured[count] / self._float

    def _verdict(self, count: int) -> str:
        return (
            f"{self._coverage(count)}: {self._measured[count]:.2f} instead of {self._float:.2f}, "
            f"{self._loss(count):.2%} lost of {self._recipe.tolerance:.2%} allowed"
        )

    def _coverage(self, count: int) -> str:
        tried = Quantization(mode=self._recipe.mode, layers=self._with(count))
        bits = " or ".join(map(str, tried.weight_bits or [8]))
        return f"{len(tried.int8_layers)} of {len(tried.layers)} layers in {bits} bits"

    def _history(self) -> list[dict[str, float]]:
        return [
            {"float_layers": float(count), "metric": value, "loss": self._loss(count)}
            for count, value in self._measured.items()
        ]


def _ratio(layer: LayerDecision) -> float:
    return math.inf if layer.sqnr_db is None else layer.sqnr_db
