"""What a model of some sizes costs, in the units that pruning saves.

A meter is a function of sizes alone, so that what a unit costs is a difference of two readings.
"""

from collections.abc import Callable
from functools import cache, partial
from math import prod

from blip_edge.distill.engine_layers import Attention, FeedForward, Layer, Linear, Look
from blip_edge.distill.recipe import Per
from blip_edge.distill.stopwatch import seconds_of
from blip_edge.models.config import BlipConfig, TextConfig, VisionConfig
from blip_edge.models.cost import Lengths, stage_costs
from blip_edge.models.weighing import parameters

__all__ = ["Meter", "meter_of"]

Meter = Callable[[BlipConfig], float]

_LENGTHS = Lengths()
_LEAST = 5e-7
"""Seconds that a node of a graph takes however small it is."""


def meter_of(per: Per, beams: int = 1) -> Meter:
    """The meter that is called `per`.

    parameters: how many there are. macs: multiplications of one caption, answer, sentence or match.
    latency: seconds of the same on this machine with so many `beams`, as the sum of its layers,
    each of which is measured in ONNX Runtime; a layer that is gone saves what the engine takes for
    its operators, too.

    Raises:
        MissingExtraError: latency needs onnx and onnxruntime.
    """
    latency = partial(_latency, beams=beams)
    meters: dict[Per, Meter] = {"parameters": _parameters, "macs": _macs, "latency": latency}
    return meters[per]


def _parameters(config: BlipConfig) -> float:
    return float(sum(parameters(config).values()))


def _macs(config: BlipConfig) -> float:
    costs = stage_costs(config, _LENGTHS)
    steps = _LENGTHS.tokens - _LENGTHS.prompt
    return float(sum(cost.macs * (steps if name == "step" else 1) for name, cost in costs.items()))


def _latency(config: BlipConfig, beams: int) -> float:
    vision, text, parts = config.vision_config, config.text_config, config.parts
    words, seen = _LENGTHS.tokens, vision.num_output_tokens
    pictures = 1 + parts.twin
    patches = Linear(vision.num_tokens, 3 * vision.patch_size**2, vision.hidden_size)
    total = pictures * (_run(patches) + _seeing(vision))
    layers = list(zip(text.heads, text.cross_heads, strict=True))
    total += pictures * sum(
        2 * _run(Linear(seen, text.encoder_hidden_size, cross * text.head_width))
        for _, cross in layers
    )
    if parts.encoder:
        total += _reading(text, (1, words), words, seen, pictures)
    if parts.compares:  # a text has a vector of its own, too
        total += _reading(text, (1, words), words, seen, 0)
    if parts.decoder:
        if parts.encoder and not parts.compares:  # an answer looks at the question, not the picture
            read = (Linear(words, text.hidden_size, cross * text.head_width) for _, cross in layers)
            total += 2 * sum(_run(one) for one in read)
            seen = words
        logits = Linear(beams, text.hidden_size, text.hidden_size + text.vocab_size)
        step = _reading(text, (beams, 1), words, seen, 1) + _run(logits)
        total += (words - _LENGTHS.prompt) * step
    return total


def _seeing(vision: VisionConfig) -> float:
    """The image tower's layers; its tokens merge after attention, before the neurons."""
    tokens = (vision.num_tokens, *vision.layer_tokens)
    width = vision.hidden_size
    return sum(
        _run(Attention(1, before, width, heads, vision.head_width, before))
        + _run(FeedForward(after, width, neurons))
        for heads, neurons, before, after in zip(
            vision.heads, vision.ffn_widths, tokens[:-1], tokens[1:], strict=True
        )
    )


def _reading(
    text: TextConfig, new: tuple[int, int], tokens: int, seen: int, pictures: int
) -> float:
    """The text tower's layers on (texts, tokens) of `tokens` each, with a look at `seen` others."""
    width, each = text.hidden_size, text.head_width
    sizes = zip(text.heads, text.cross_heads, text.ffn_widths, strict=True)
    return sum(
        _run(Attention(*new, width, heads, each, tokens))
        + pictures * _run(Look(*new, width, cross, each, seen))
        + _run(FeedForward(prod(new), width, neurons))
        for heads, cross, neurons in sizes
    )


@cache
def _run(layer: Layer) -> float:
    # What a call of the engine itself takes is not the part's, and nothing cut saves it.
    return max(_LEAST, seconds_of(layer) - _call())


@cache
def _call() -> float:
    return seconds_of(Linear(1, 1, 1))
