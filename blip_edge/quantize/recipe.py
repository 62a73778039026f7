"""What a quantization may be told."""

from dataclasses import dataclass
from typing import Literal

from blip_edge.errors import UsageError

__all__ = ["QuantizeRecipe"]


@dataclass(frozen=True, kw_only=True)
class QuantizeRecipe:
    """Weights and inputs of the linear layers in 8 bits, ranges fixed by calibration."""

    mode: Literal["static", "dynamic", "weight-only", "qat"] = "static"
    """static: weights and inputs in 8 bits, input ranges measured beforehand. It is the only mode
    that this version has; the others are refused."""
    samples: int = 128
    """Pictures, questions or sentences of the train split that ranges are measured on."""
    batch: int = 16
    """Pictures that are run at once; no influence on the result but rounding."""
    observer: Literal["min-max", "percentile", "mse"] = "mse"
    """How a range is taken from the values that were seen: all of them, the middle `percentile`,
    or the range with the least squared error after rounding."""
    percentile: float = 99.99
    """Percent of the values that the range holds, the rest being cut off evenly at both ends
    (observer percentile)."""
    sensitivity: Literal["none", "sqnr", "metric"] = "metric"
    """What decides on single layers. none: nothing. sqnr: a layer under `floor_db` stays in float.
    metric: when the tolerance is missed, the layers with the lowest signal-to-noise ratio go back
    to float, as few as it takes."""
    floor_db: float = 10.0
    """Lowest signal-to-noise ratio of a layer's 8-bit output, in decibel (sensitivity sqnr)."""
    max_float: float = 0.5
    """Largest share of the layers that may go back to float (sensitivity metric)."""
    tolerance: float = 0.01
    """Largest loss, as a share of the float model's metric (CIDEr, r_mean, vqa_accuracy or, of
    NLVR2, accuracy); a float metric of 0 counts as no loss."""
    eval_items: int = 500
    """Items of the val split that the metric is measured on; 0: none, and nothing is refused."""
    max_bad: float = 0.01
    """Share of `samples` that may be unreadable before the run stops."""

    def __post_init__(self) -> None:
        if self.mode != "static":
            raise UsageError(f"mode {self.mode} does not exist yet; this version has: static")
        if self.samples < 1 or self.batch < 1:
            raise UsageError("samples and batch must be at least 1")
        if not 50 < self.percentile <= 100:
            raise UsageError(f"percentile must be above 50 and at most 100, got {self.percentile}")
        if not 0 <= self.max_float <= 1 or not 0 <= self.max_bad <= 1:
            raise UsageError("max_float and max_bad are shares, 0 to 1")
        if self.tolerance < 0 or self.eval_items < 0:
            raise UsageError("tolerance and eval_items must not be negative")
        if self.sensitivity == "metric" and not self.eval_items:
            raise UsageError('sensitivity "metric" needs eval_items; without them use "sqnr"')
