"""SmoothQuant: part of what makes an input hard to round is moved into the weights that read it.

Channel j of an input is divided by s_j = max|x_j|^α / max|w_j|^(1-α), and what reads it multiplied
by the same, so that the float model computes what it did and the input's channels are more alike.
How much of the difficulty moves is α, found for every place that can hold the division (`folds`):
the one whose 8-bit readers are nearest to the float ones, or none at all.
Source: Xiao et al., "SmoothQuant" (arXiv 2211.10438, section 4, equation 4).
"""

# C channels of an input · O output channels

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor, nn

from blip_edge.models.folder import Model
from blip_edge.models.quantized import QuantizedLayer, quantizable_layers, twin_of
from blip_edge.progress import SILENT, Progress
from blip_edge.quantize.calibrate import Look, observe, replay
from blip_edge.quantize.folds import Fold, folds_of
from blip_edge.quantize.modes import form_of, layer_decision
from blip_edge.quantize.observers import Observer, observer
from blip_edge.quantize.outliers import Spread
from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.quantize.sensitivity import Noise
from blip_edge.quantize.uses import Use

__all__ = ["smooth", "smoothing_scales"]

_ALPHAS = (0.3, 0.5, 0.7, 0.85, 0.95)


@dataclass(frozen=True)
class _Place:
    """A fold, and those of its readers that will compute in 8 bits, by path."""

    name: str
    fold: Fold
    readers: dict[str, nn.Linear]
    channels: Tensor
    """(C,): the greatest |x| of each."""

    @property
    def watched(self) -> str:
        """The reader at which the tensor is looked at."""
        return next(iter(self.readers))

    def scales(self, alpha: float | None) -> Tensor:
        """(C,) numbers that channels are divided by; ones for None."""
        if alpha is None:
            return torch.ones_like(self.channels)
        weights = torch.stack([r.weight.detach().abs().amax(0) for r in self.readers.values()])
        return smoothing_scales(self.channels, weights.amax(0), alpha)


def smoothing_scales(inputs: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """s_j = max|x_j|^α / max|w_j|^(1-α), (C,), of both maxima; 1 where either is 0.

    A channel that calibration saw nothing of may be of use later, and is left as it is.
    """
    there = (inputs > 0) & (weights > 0)
    scales = inputs.clamp(min=1e-30) ** alpha / weights.clamp(min=1e-30) ** (1 - alpha)
    return torch.where(there, scales.clamp(1e-5, 1e5), 1.0)


def smooth(
    model: Model,
    seen: Sequence[Use],
    spreads: Mapping[str, Spread],
    recipe: QuantizeRecipe,
    *,
    progress: Progress = SILENT,
) -> dict[str, float | None]:
    """Smooth a model in place; its float function stays what it was.

    Args:
        model: a float model.
        seen: what α is searched on; many passes are made.
        spreads: what `survey` found, by the path of the reading layer.
        recipe: `smooth`, and how layers are rounded.
        progress: told how far it is.

    Returns:
        The α of each place by the path of what makes the tensor, None where none is better.
    """
    places = _places(model, spreads, recipe)
    found: dict[str, float | None]
    if recipe.smooth == "fixed":
        found = dict.fromkeys((place.name for place in places), recipe.smooth_alpha)
    else:
        found = _search(model, seen, places, recipe, progress)
    chosen = [(place, place.scales(found[place.name])) for place in places]  # before any is applied
    for place, scales in chosen:
        if found[place.name] is not None:
            place.fold.apply(scales)
    return found


def _places(model: Model, spreads: Mapping[str, Spread], recipe: QuantizeRecipe) -> list[_Place]:
    """The folds at which smoothing can help: something that reads in 8 bits, and is run."""
    paths = {module: path for path, module in model.blip.named_modules()}
    layers = quantizable_layers(model.blip)
    found = []
    for fold in folds_of(model.blip):
        readers = {paths[reader]: reader for reader in fold.readers if paths[reader] in layers}
        readers = {p: r for p, r in readers.items() if form_of(p, recipe) != "weight-only"}
        spread = next((spreads[path] for path in readers if path in spreads), None)
        if spread is None or spread.channels is None:
            continue
        run = {path: reader for path, reader in readers.items() if path in spreads}
        found.append(_Place(paths[fold.made_by], fold, run, spread.channels))
    return found


def _search(
    model: Model,
    seen: Sequence[Use],
    places: Sequence[_Place],
    recipe: QuantizeRecipe,
    progress: Progress,
) -> dict[str, float | None]:
    """For each place the α after which its readers lose least, None first among equals.

    One α at a time, so that only one set of 8-bit layers is held.
    """
    best: dict[str, tuple[float, float | None]] = {}
    for alpha in (None, *_ALPHAS):
        what = "as it is" if alpha is None else f"α {alpha:g}"
        found = _ratios(model, seen, places, alpha, recipe, f"smoothing, {what}", progress)
        for name, db in found.items():
            if name not in best or db > best[name][0]:
                best[name] = db, alpha
    return {name: alpha for name, (_, alpha) in best.items()}


def _ratios(
    model: Model,
    seen: Sequence[Use],
    places: Sequence[_Place],
    alpha: float | None,
    recipe: QuantizeRecipe,
    description: str,
    progress: Progress,
) -> dict[str, float]:
    """By place, its readers' mean signal-to-noise ratio in decibel when it is smoothed by α.

    Ranges are of every second part of `seen`, ratios of the others: channels that are alike are all
    near their range's end, and a ratio on what the range was taken from would not tell how much
    of other data is cut off.
    """
    scales = {place.name: place.scales(alpha) for place in places}
    watches = {
        place.watched: _Divided(observer(recipe.own_observer, percentile=recipe.percentile), by)
        for place, by in zip(places, scales.values(), strict=True)
    }
    observe(model, seen[::2], watches, description=description, progress=progress)
    noises: dict[str, dict[str, Noise]] = {place.name: {} for place in places}
    looks: dict[str, Look] = {}
    for place in places:
        by, span = scales[place.name], watches[place.watched].inner.span()
        for path, reader in place.readers.items():
            scaled = _scaled(reader, by)
            twin = twin_of(scaled, layer_decision(path, scaled, span, recipe))
            noises[place.name][path] = noise = Noise()
            looks[path] = _compare(twin, by, noise)
    replay(model, seen[1::2] or seen, looks, description=description, progress=progress)
    return {name: mean(noise.db for noise in found.values()) for name, found in noises.items()}


class _Divided:
    """An observer of what a layer would read."""

    def __init__(self, inner: Observer, by: Tensor) -> None:
        self.inner, self._by = inner, by

    def see(self, x: Tensor) -> None:
        self.inner.see(x / self._by)


def _compare(twin: QuantizedLayer, by: Tensor, noise: Noise) -> Callable[[Tensor, Tensor], None]:
    return lambda x, y: noise.add(y, twin(x / by))


def _scaled(reader: nn.Linear, by: Tensor) -> nn.Linear:
    """A layer for inputs that are divided; `reader` is left as it is."""
    layer = nn.Linear(reader.in_features, reader.out_features, device="meta")
    layer.weight = nn.Parameter(reader.weight.detach() * by, requires_grad=False)
    layer.bias = reader.bias
    return layer
