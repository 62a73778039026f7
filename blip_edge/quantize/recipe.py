"""What a quantization may be told."""

from dataclasses import dataclass
from typing import Literal, get_args

from blip_edge.errors import UsageError
from blip_edge.quantize.observers import ObserverName

__all__ = ["OBSERVERS", "EngineName", "QuantizeRecipe"]

EngineName = Literal["blip-edge", "neural-compressor", "nncf", "onnxruntime"]
"""Who finds the ranges of what layers read."""
OBSERVERS: dict[EngineName, tuple[str, ...]] = {
    "blip-edge": ("mse", "min-max", "percentile", "entropy"),
    "neural-compressor": ("mean-min-max", "mse", "autotune"),
    "nncf": ("mean-min-max", "min-max", "percentile"),
    "onnxruntime": ("min-max", "percentile", "entropy"),
}
"""How each of them can take a range from what was seen, its own choice first."""


@dataclass(frozen=True, kw_only=True)
class QuantizeRecipe:
    """Which numbers of the linear layers become integers, and what that may cost."""

    mode: Literal["static", "dynamic", "weight-only", "qat"] = "static"
    """static: weights and inputs in 8 bits, input ranges measured beforehand. dynamic: the same,
    ranges found at each run. weight-only: weights alone, in `weight_bits`. qat: static, and the
    weights are trained to be rounded, the float model being the teacher."""
    decoder_mode: Literal["", "static", "dynamic", "weight-only"] = ""
    """The mode of the text decoder and its head, where every weight is read for one token; "": as
    mode."""
    weight_bits: Literal[8, 4] = 8
    """Of layers whose weights alone are integers: 8, one scale an output channel, or 4, one scale a
    group of inputs."""
    group_size: int = 32
    """Inputs that share a scale in 4 bits: 16, 32, 64, 128 or 256. A layer whose inputs are no
    whole number of groups stays in 8 bits."""
    samples: int = 128
    """Pictures, questions or sentences of the train split that ranges are measured on."""
    batch: int = 16
    """Pictures that are run at once, without influence on the result but rounding and what an
    observer averages over batches; of qat also the rows of a step."""
    engine: EngineName = "blip-edge"
    """Who finds the ranges: blip-edge itself; neural-compressor, Intel's (extra inc); nncf,
    OpenVINO's (extra nncf); or onnxruntime's calibrators (extra onnx)."""
    observer: Literal["", ObserverName, "mean-min-max", "autotune"] = ""
    """How a range is taken from the values that were seen: all of them (min-max), the middle
    `percentile`, the range with the least squared error after rounding (mse), or that whose
    histogram tells most (entropy); mean-min-max: ends averaged over the batches; autotune:
    neural-compressor tries what it has and goes by the metric. "": the engine's own choice, mse of
    blip-edge."""
    percentile: float = 99.99
    """Percent of the values that the range holds, the rest being cut off evenly at both ends
    (observer percentile)."""
    smooth: Literal["none", "fixed", "search"] = "none"
    """Move part of what makes 8-bit inputs hard to round into the weights, where the layer before
    can take it up (SmoothQuant); the float model stays what it is. fixed: as much as `smooth_alpha`
    says; search: as much as helps, place by place."""
    smooth_alpha: float = 0.5
    """How much: 0 only evens out the weights, 1 only the inputs (smooth fixed)."""
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
    steps: int = 0
    """Optimiser steps; 0 says that `epochs` decides (qat)."""
    epochs: float = 1.0
    """Passes over the train rows, when `steps` is 0 (qat)."""
    lr: float = 1e-5
    """Peak learning rate of AdamW; it falls along a half cosine (qat)."""
    warmup: int = 0
    """Steps in which the learning rate rises from 0 to `lr` (qat)."""
    max_bad: float = 0.01
    """Share of `samples` that may be unreadable before the run stops."""

    def __post_init__(self) -> None:
        if self.engine not in OBSERVERS:
            raise UsageError(f"engine must be {', '.join(OBSERVERS)}, got {self.engine!r}")
        if self.observer and self.observer not in OBSERVERS[self.engine]:
            known = ", ".join(OBSERVERS[self.engine])
            raise UsageError(f"{self.engine} has no observer {self.observer!r}; it has {known}")
        if self.engine != "blip-edge" and not {"static", "qat"} & {self.mode, self.decoder_mode}:
            raise UsageError(f"engine {self.engine} finds ranges, and mode {self.mode} has none")
        if self.observer == "autotune" and not self.eval_items:
            raise UsageError('observer "autotune" goes by the metric, which needs eval_items')
        if self.steps < 0 or self.epochs <= 0 or not self.lr > 0 or self.warmup < 0:
            raise UsageError(
                "steps and warmup must not be negative, epochs and lr must be positive"
            )
        if self.weight_bits not in (8, 4):
            raise UsageError(f"weight_bits must be 8 or 4, got {self.weight_bits}")
        if self.weight_bits == 4 and "weight-only" not in (self.mode, self.decoder_mode):
            raise UsageError('weight_bits 4 needs mode or decoder_mode "weight-only"')
        if self.group_size not in (16, 32, 64, 128, 256):
            raise UsageError(f"group_size must be 16, 32, 64, 128 or 256, got {self.group_size}")
        if self.samples < 1 or self.batch < 1:
            raise UsageError("samples and batch must be at least 1")
        if not 50 < self.percentile <= 100:
            raise UsageError(f"percentile must be above 50 and at most 100, got {self.percentile}")
        if not 0 <= self.smooth_alpha <= 1:
            raise UsageError(f"smooth_alpha must lie between 0 and 1, got {self.smooth_alpha}")
        if not 0 <= self.max_float <= 1 or not 0 <= self.max_bad <= 1:
            raise UsageError("max_float and max_bad are shares, 0 to 1")
        if self.tolerance < 0 or self.eval_items < 0:
            raise UsageError("tolerance and eval_items must not be negative")
        if self.sensitivity == "metric" and not self.eval_items:
            raise UsageError('sensitivity "metric" needs eval_items; without them use "sqnr"')

    @property
    def range_observer(self) -> str:
        """The observer by its name, the engine's own choice if none was named."""
        return self.observer or OBSERVERS[self.engine][0]

    @property
    def own_observer(self) -> ObserverName:
        """That of ours which comes nearest: what is tried on the way is tried by ours."""
        own: tuple[ObserverName, ...] = get_args(ObserverName)
        return next((name for name in own if name == self.range_observer), "mse")
