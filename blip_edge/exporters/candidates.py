"""Other forms of the layers that were decided on: which of them is fast is a machine's to say.

A candidate never gives a weight fewer bits than was decided, and never rounds inputs that were not
to be rounded: from static a layer can become dynamic or weight-only, from dynamic weight-only, and
from 4 bits it can go back to 8. What stays in float stays there.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from blip_edge.errors import ArtifactError
from blip_edge.models.quantized import (
    HEAD,
    Form,
    LayerDecision,
    Quantization,
    runs_at_every_step,
)

__all__ = ["DECIDED", "HEAD_IN_FLOAT", "WEIGHT_ONLY", "candidates", "in_form"]

DECIDED = "decided"
"""The form that quantization.json says."""
WEIGHT_ONLY = "weight-only"
"""Nothing but weights is integers."""
HEAD_IN_FLOAT = "decided, head weight-only"
"""As decided, but the language-model head's inputs stay as they are."""
_Change = Callable[[LayerDecision], LayerDecision]


def _as_decided(layer: LayerDecision) -> LayerDecision:
    return layer


def _dynamic(layer: LayerDecision) -> LayerDecision:
    if layer.form != "static":
        return layer
    return replace(layer, input_scale=None, input_zero_point=None, input_range=None)


def _weight_only(layer: LayerDecision) -> LayerDecision:
    if layer.form not in ("static", "dynamic"):
        return layer
    return replace(_dynamic(layer), activation_bits=32)


def _in_8_bits(layer: LayerDecision) -> LayerDecision:
    return replace(layer, weight_bits=8, group_size=None) if layer.weight_bits == 4 else layer


def _dynamic_in_8_bits(layer: LayerDecision) -> LayerDecision:
    return _dynamic(_in_8_bits(layer))


# What becomes of layers that are run once, and of those that every step of a decoder runs.
_CHANGES: Mapping[str, tuple[_Change, _Change]] = {
    DECIDED: (_as_decided, _as_decided),
    WEIGHT_ONLY: (_weight_only, _weight_only),
    "dynamic": (_dynamic, _dynamic),
    "decoder weight-only": (_as_decided, _weight_only),
    "dynamic, decoder weight-only": (_dynamic, _weight_only),
    "no 4 bits": (_in_8_bits, _in_8_bits),
    "dynamic, no 4 bits": (_dynamic_in_8_bits, _dynamic_in_8_bits),
}


def in_form(quantization: Quantization, form: str) -> Quantization:
    """The decisions in the form of that name.

    Raises:
        ArtifactError: this version has none.
    """
    if form == HEAD_IN_FLOAT:
        layers = dict(quantization.layers)
        layers |= {path: _weight_only(layers[path]) for path in layers if path == HEAD}
        return replace(quantization, layers=layers)
    if form not in _CHANGES:
        raise ArtifactError(f"there is no form {form!r} of quantized layers; export again")
    once, steps = _CHANGES[form]
    layers = {
        path: (steps if runs_at_every_step(path) else once)(layer)
        for path, layer in quantization.layers.items()
    }
    return replace(quantization, layers=layers)


def candidates(quantization: Quantization, has: Collection[Form]) -> list[str]:
    """Names of forms that differ from each other on a target that has the forms `has`.

    What is dynamic is weight-only where `has` has it not.
    """
    found: dict[str, tuple[str, ...]] = {}
    for form in _CHANGES:
        layers = list(in_form(quantization, form).layers.values())
        if "dynamic" not in has:
            layers = [_weight_only(d) if d.form == "dynamic" else d for d in layers]
        seen = tuple(layer.name for layer in layers)
        if seen not in found.values():
            found[form] = seen
    return list(found)
