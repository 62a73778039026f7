"""Which float weights files hold in half precision, and a network that computes with the same."""

import math
from collections.abc import Sequence

from blip_edge.models.blip import Blip
from blip_edge.models.quantized import QuantizedLayer, QuantizedWords

__all__ = ["beside_integers", "fits_in_half"]

_LARGE = 1024  # numbers: fewer are not worth a Cast


def fits_in_half(shape: Sequence[int]) -> bool:
    """Whether weights of that shape are matrices, and large: biases, norms and scales are not."""
    return math.prod(shape) >= _LARGE and sum(size > 1 for size in shape) > 1


def beside_integers(blip: Blip) -> Blip:
    """Round large float matrices to half precision, in place, if other layers have integers."""
    if any(isinstance(module, QuantizedLayer | QuantizedWords) for module in blip.modules()):
        for parameter in blip.parameters():
            if fits_in_half(parameter.shape):
                parameter.data = parameter.data.half().to(parameter.dtype)
    return blip
