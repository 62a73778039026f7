"""How much each layer loses by computing in 8 bits, alone, on the calibration data.

One pass over the data measures all layers, because each gets the float model's input: cheap, and a
good order of which layer to doubt first, though no prediction of what all of them do together.
"""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from blip_edge.errors import ArtifactError
from blip_edge.models.folder import Model
from blip_edge.models.quantized import (
    LayerDecision,
    QuantizedLayer,
    QuantizedWords,
    quantizable_layers,
    quantizable_tables,
    twin_of,
)
from blip_edge.progress import SILENT, Progress
from blip_edge.quantize.calibrate import Look, replay
from blip_edge.quantize.uses import Use

__all__ = ["Noise", "layer_sqnr"]

# Stands for "no noise at all", as JSON has no infinity; no float32 comparison reaches it.
_SILENCE_DB = 200.0


class Noise:
    """Signal to quantisation noise, summed over batches: 10 log₁₀(Σ y² / Σ (y - y_q)²)."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, y: Tensor, y_q: Tensor) -> None:
        """Take an output and its 8-bit counterpart, of one shape, into account."""
        self._signal += float(y.double().square().sum())
        self._noise += float((y.double() - y_q.double()).square().sum())

    @property
    def is_finite(self) -> bool:
        """Whether all that was compared are numbers."""
        return math.isfinite(self._signal) and math.isfinite(self._noise)

    @property
    def db(self) -> float:
        """In decibel, within ±200."""
        if not self._noise:
            return _SILENCE_DB
        if not self._signal:
            return -_SILENCE_DB
        ratio = 10 * math.log10(self._signal / self._noise)
        return min(max(ratio, -_SILENCE_DB), _SILENCE_DB)


def layer_sqnr(
    model: Model,
    seen: Sequence[Use],
    decisions: Mapping[str, LayerDecision],
    *,
    progress: Progress = SILENT,
) -> dict[str, float]:
    """The signal-to-noise ratio in decibel of every layer and table decided as int8, by path.

    Raises:
        ArtifactError: a layer's output is not finite.
    """
    layers, tables = quantizable_layers(model.blip), quantizable_tables(model.blip)
    noises = {path: Noise() for path, d in decisions.items() if d.decision == "int8"}
    looks = {
        path: _compare(twin_of(layers.get(path) or tables[path], decisions[path]), noise)
        for path, noise in noises.items()
    }
    replay(model, seen, looks, description="measuring each layer", progress=progress)
    for path, noise in noises.items():
        if not noise.is_finite:
            raise ArtifactError(f"what layer {path} gives on calibration data is not finite")
    return {path: noise.db for path, noise in noises.items()}


def _compare(twin: QuantizedLayer | QuantizedWords, noise: Noise) -> Look:
    return lambda x, y: noise.add(y, twin(x))
