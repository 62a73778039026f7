"""What a model of some sizes costs, in the units that pruning saves.

A meter is a function of sizes alone, so that what a unit costs is a difference of two readings.
"""

from collections.abc import Callable
from functools import cache

from blip_edge.distill.recipe import Per
from blip_edge.distill.stopwatch import product_seconds
from blip_edge.models.config import BlipConfig
from blip_edge.models.cost import Lengths, stage_costs
from blip_edge.models.weighing import parameters

__all__ = ["Meter", "meter_of"]

Meter = Callable[[BlipConfig], float]

_LENGTHS = Lengths()
_LEAST = 5e-7
"""Seconds that a node of a graph takes however small it is."""


def meter_of(per: Per) -> Meter:
    """The meter that is called `per`.

    parameters: how many there are. macs: multiplications of one caption, answer, sentence or match.
    latency: seconds of the same on this machine, as the sum of its layers' matrix products, each of
    which is measured in ONNX Runtime.

    Raises:
        MissingExtraError: latency needs onnx and onnxruntime.
    """
    return {"parameters": _parameters, "macs": _macs, "latency": _latency}[per]


def _parameters(config: BlipConfig) -> float:
    return float(sum(parameters(config).values()))


def _macs(config: BlipConfig) -> float:
    costs = stage_costs(config, _LENGTHS)
    steps = _LENGTHS.tokens - _LENGTHS.prompt
    return float(sum(cost.macs * (steps if name == "step" else 1) for name, cost in costs.items()))


def _latency(config: BlipConfig) -> float:
    """Of the layers; the patch embedding and the word table are not cut but for the width."""
    vision, text = config.vision_config, config.text_config
    tokens = (vision.num_tokens, *vision.layer_tokens[:-1])
    total = sum(
        _vision_layer(vision.hidden_size, heads * vision.head_width, neurons, count)
        for heads, neurons, count in zip(vision.heads, vision.ffn_widths, tokens, strict=True)
    )
    sizes = zip(text.heads, text.cross_heads, text.ffn_widths, strict=True)
    for heads, cross, neurons in sizes:
        total += _text_layer(config, heads * text.head_width, cross * text.head_width, neurons)
    return total


def _vision_layer(width: int, inner: int, neurons: int, tokens: int) -> float:
    shapes = ((tokens, width, 3 * inner), (tokens, inner, width))
    ffn = ((tokens, width, neurons), (tokens, neurons, width))
    return sum(_product(*shape) for shape in (*shapes, *ffn)) + 2 * _product(tokens, inner, tokens)


def _text_layer(config: BlipConfig, inner: int, cross: int, neurons: int) -> float:
    text, seen = config.text_config, config.vision_config.num_output_tokens
    width = text.hidden_size
    rows = [1] * (_LENGTHS.tokens - _LENGTHS.prompt) if config.parts.decoder else []
    rows += [_LENGTHS.tokens] if config.parts.encoder else []
    once = 2 * _product(seen, text.encoder_hidden_size, cross)
    each = {
        count: _product(count, width, 3 * inner)
        + _product(count, inner, width)
        + _product(count, width, cross)
        + _product(count, cross, width)
        + 2 * _product(count, cross, seen)
        + _product(count, width, neurons)
        + _product(count, neurons, width)
        for count in set(rows)
    }
    return once + sum(each[count] for count in rows)


@cache
def _product(rows: int, inputs: int, outputs: int) -> float:
    # What a call of the engine itself takes is not the product's, and nothing cut saves it.
    return max(_LEAST, product_seconds(rows, inputs, outputs) - _call())


@cache
def _call() -> float:
    return product_seconds(1, 1, 1)
