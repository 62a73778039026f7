"""How far the inputs of layers are from filling their range evenly, across the network.

One range is for all channels of an input. A few channels that are far out take it from the others,
which is the commonest reason why 8 bits spoil a transformer (Dettmers et al., arXiv 2208.07339).
"""

# I channels of an input

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from blip_edge.models.folder import Model
from blip_edge.progress import SILENT, Progress
from blip_edge.quantize.calibrate import observe
from blip_edge.quantize.histogram import Histogram
from blip_edge.quantize.uses import Use

__all__ = ["Spread", "report", "survey"]

_MOST = 0.9999
_FAR_OUT = 6.0


class Spread:
    """What a layer's input looks like: each channel's largest value, and a histogram of all."""

    def __init__(self) -> None:
        self._sizes = Histogram()
        self.channels: Tensor | None = None
        """(I,): the greatest |x| of each; None when nothing was seen."""

    def see(self, x: Tensor) -> None:
        """Take (…, I) values into account.

        Raises:
            ArtifactError: one of them is not a finite number.
        """
        if not x.numel():
            return
        sizes = x.detach().float().abs()
        self._sizes.see(sizes)
        most = sizes.flatten(0, -2).amax(0)
        self.channels = most if self.channels is None else torch.maximum(self.channels, most)

    @property
    def peak(self) -> float:
        """The greatest |x| as a multiple of what 99.99 % of all are below."""
        _, high = self._sizes.extremes.span() or (0.0, 0.0)
        usual = self._sizes.quantile(_MOST) if high else 0.0
        return high / usual if usual else 1.0

    @property
    def far_out(self) -> int:
        """Channels whose greatest |x| is over six times the median channel's."""
        if self.channels is None:
            return 0
        return int((self.channels > _FAR_OUT * self.channels.median()).sum())


def survey(
    model: Model, seen: Sequence[Use], paths: Iterable[str], *, progress: Progress = SILENT
) -> dict[str, Spread]:
    """The spread of what each of some layers reads; those that are never run are left out.

    Raises:
        ArtifactError: a layer's input is not finite; the layer is named.
    """
    spreads = {path: Spread() for path in paths}
    observe(model, seen, spreads, description="looking for outliers", progress=progress)
    return {path: spread for path, spread in spreads.items() if spread.channels is not None}


def report(
    before: Mapping[str, Spread], after: Mapping[str, Spread] | None = None
) -> dict[str, dict[str, Any]]:
    """What quantization.json says of each layer: `{"channels", "peak", "far_out", "smoothed"}`.

    channels counts the input's channels, smoothed has peak and far_out after smoothing, if any.
    """
    rows: dict[str, dict[str, Any]] = {}
    for path, spread in before.items():
        count = 0 if spread.channels is None else len(spread.channels)
        rows[path] = {"channels": count, **_told(spread)}
        if after is not None:
            rows[path]["smoothed"] = _told(after[path])
    return rows


def _told(spread: Spread) -> dict[str, Any]:
    return {"peak": round(spread.peak, 2), "far_out": spread.far_out}
