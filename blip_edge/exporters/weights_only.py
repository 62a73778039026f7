"""For targets without products of inputs whose range is found at each run."""

from blip_edge.models.blip import Blip
from blip_edge.models.quantized import DynamicLinear, WeightOnlyLinear

__all__ = ["without_dynamic"]


def without_dynamic(blip: Blip) -> Blip:
    """Let dynamic layers, in place, read their inputs in float; their integers are the same."""
    for path, layer in list(blip.named_modules()):
        if isinstance(layer, DynamicLinear):
            twin = WeightOnlyLinear(layer.weight, layer.weight_scale, layer.bias)
            blip.set_submodule(path, twin, strict=True)
    return blip
