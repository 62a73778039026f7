"""Post-training quantization: 8-bit linear layers whose input ranges are taken from real decoding.

    quantize(model, data, output, QuantizeRecipe(tolerance=0.01))

`observers` turn what a layer sees into a range, `calibrate` shows every layer what it sees when the
model captions, `sensitivity` says how much each layer loses, `fallback` how few layers must go
back to float, and `stage` is the verb.
"""

from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.quantize.stage import Measure, quantize

__all__ = ["Measure", "QuantizeRecipe", "quantize"]
