"""Whether a graph gives what it is said to give: names, shapes and types, and numbers at all.

These come before any difference is measured, because a graph that fails here has none to measure.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from blip_edge.runtime.engine import F32
from blip_edge.runtime.manifest import Graph

__all__ = ["first_off", "misdeclared", "not_numbers"]


def misdeclared(graph: Graph, expected: Mapping[str, F32], actual: Mapping[str, F32]) -> list[str]:
    """What is wrong with the names, shapes and types of a graph's outputs, a line each.

    Args:
        graph: as manifest.json declares it.
        expected: what torch gives, which also says how large the free sizes are.
        actual: what the graph gives.
    """
    found = [f"the output {name} is missing" for name in graph.outputs if name not in actual]
    found += [
        f"there is an output {name} that nobody declared"
        for name in sorted(actual.keys() - graph.outputs.keys())
    ]
    for name, port in graph.outputs.items():
        if name not in actual:
            continue
        got = actual[name]
        fits = len(got.shape) == len(port.shape) and all(
            size == fixed or not isinstance(fixed, int)
            for size, fixed in zip(got.shape, port.shape, strict=True)
        )
        if not fits:
            found.append(f"{name} is {_sizes(got.shape)}, declared {_sizes(port.shape)}")
        elif got.shape != expected[name].shape:
            found.append(f"{name} is {_sizes(got.shape)}, torch's {_sizes(expected[name].shape)}")
        if got.dtype != port.dtype:
            found.append(f"{name} is {got.dtype}, declared {port.dtype}")
    return found


def not_numbers(actual: Mapping[str, F32]) -> list[str]:
    """Which outputs hold NaN or infinity, a line each."""
    found = []
    for name, values in actual.items():
        bad = int(values.size - np.isfinite(values).sum())
        if bad:
            found.append(f"{name}: {bad} of {values.size} values are NaN or infinite")
    return found


def first_off(outputs: Iterable[str], off: Iterable[str]) -> str:
    """Where to look when some of a graph's outputs are off: "" if no output belongs to a layer.

    Keys and values are given layer by layer, so that the first that are off tell the layer. What
    the vision graph gives is one tower's tokens as every layer reads them: all are off if that is.
    """
    layers, wrong = _layers(outputs), sorted(_layers(off))
    if not layers:
        return ""
    if not wrong:
        return "; every layer's keys and values are right, so look behind the last layer's"
    if len(wrong) == len(layers) > 1:
        return "; so are keys or values of every layer: look at what the first one reads"
    return f"; first off in layer {wrong[0]}"


def _layers(outputs: Iterable[str]) -> set[int]:
    ends = (name.rpartition("_")[2] for name in outputs)
    return {int(end) for end in ends if end.isdigit()}


def _sizes(shape: tuple[int | str, ...]) -> str:
    return "x".join(map(str, shape))
