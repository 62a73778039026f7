"""Graphs to Core ML programs (.mlpackage), for iOS 17 and macOS 14 on, or one later.

Shapes are fixed and masks finite, which is what the Neural Engine runs. Conversion works on Linux;
Core ML itself does not, so that the result is read back and evaluated by `runtime.mil` there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from blip_edge.errors import BlipEdgeError, UsageError, import_extra
from blip_edge.exporters.coreml_fixes import converting
from blip_edge.exporters.coreml_layers import learn_rounding
from blip_edge.exporters.coreml_words import ABOUT, describe, sign
from blip_edge.exporters.graphs import Graph, StatefulDecoderGraph
from blip_edge.exporters.recipe import ExportRecipe, Precision
from blip_edge.runtime.manifest import Port

__all__ = ["write_coreml"]

# Weights fewer than this are left as they are: a palette would not make them smaller.
_SMALLEST = 512


def write_coreml(
    graph: Graph,
    path: Path,
    *,
    precision: Precision,
    recipe: ExportRecipe,
    groups: Mapping[str, int | None] = MappingProxyType({}),
) -> None:
    """Write `graph`, whose sizes are all fixed, to the folder `path`.

    Args:
        graph: its layers with integers already replaced by float ones with the same weights.
        path: ends in .mlpackage.
        precision: fp32 computes in single, fp16 and int8 in half precision.
        recipe: its `ios` and `palette_bits` count.
        groups: paths in `graph` of the layers whose weights are stored as integers: None in 8 bits,
            a number in 4, as many inputs sharing a scale.

    Raises:
        UsageError: a cache as state in single precision, or 4 bits for iOS 17, which Core ML has
            not.
        MissingExtraError: coremltools is not installed, or scikit-learn for palettes.
    """
    states = graph.states if isinstance(graph, StatefulDecoderGraph) else {}
    if states and precision == "fp32":
        raise UsageError("ios 18 keeps the decoder's cache in half precision; export in fp16")
    if recipe.ios < 18 and any(groups.values()):
        raise UsageError("Core ML has weights of 4 bits in groups from ios 18 on: --set ios=18")
    with converting() as tools:
        learn_rounding()
        with torch.inference_mode():
            traced = torch.jit.trace(graph.eval(), graph.examples(), check_trace=False)
        half = tools.precision.FLOAT16
        targets = {17: tools.target.iOS17, 18: tools.target.iOS18}
        program = tools.convert(
            traced,
            convert_to="mlprogram",
            inputs=[_input(tools, name, port) for name, port in graph.inputs.items()],
            outputs=[tools.TensorType(name, dtype=np.float32) for name in graph.outputs],
            states=[_state(tools, name, port) for name, port in states.items()] or None,
            compute_precision=tools.precision.FLOAT32 if precision == "fp32" else half,
            minimum_deployment_target=targets[recipe.ios],
            skip_model_load=True,
        )
        if groups:
            program = _in_integers(tools, program, groups)
        if recipe.palette_bits:
            program = _in_palettes(tools, program, recipe.palette_bits)
        _say(program, graph)
        program.save(str(path))


def _input(tools: Any, name: str, port: Port) -> Any:
    if port.dtype == "uint8":
        return tools.ImageType(name, shape=port.shape, color_layout=tools.colorlayout.RGB)
    return tools.TensorType(name, shape=port.shape, dtype=np.dtype(port.dtype).type)


def _state(tools: Any, name: str, port: Port) -> Any:
    return tools.StateType(tools.TensorType(shape=port.shape, dtype=np.float16), name=name)


def _say(program: Any, graph: Graph) -> None:
    """Fill in what the file says about itself."""
    sign(program, ABOUT[graph.name], graph.facts)
    for name in graph.inputs:
        program.input_description[name] = describe(name)
    for name in graph.outputs:
        program.output_description[name] = describe(name)


def _in_palettes(tools: Any, program: Any, bits: int) -> Any:
    """Store every weight matrix as 2^bits values, found by k-means, and indices into them."""
    import_extra("sklearn", "coreml")
    optimize = tools.optimize.coreml
    settings = optimize.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=_SMALLEST)
    return optimize.palettize_weights(program, optimize.OptimizationConfig(settings))


def _in_integers(tools: Any, program: Any, groups: Mapping[str, int | None]) -> Any:
    """Store weights as int8, symmetric per output channel, or int4, per group, as `quantize` did.

    The scales that coremltools finds are those that the weights were rounded with.
    """
    optimize = tools.optimize.coreml
    operations = program._mil_program.functions["main"].operations
    names = [str(operation.name) for operation in operations if operation.op_type == "const"]

    def settings(group: int | None) -> Any:
        how: dict[str, Any] = {"dtype": "int8", "granularity": "per_channel"}
        if group is not None:
            how = {"dtype": "int4", "granularity": "per_block", "block_size": [1, group]}
        return optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0, **how)

    chosen = {_weight_name(layer, names): settings(group) for layer, group in groups.items()}
    config = optimize.OptimizationConfig(op_name_configs=chosen)
    return optimize.linear_quantize_weights(program, config)


def _weight_name(layer: str, names: Sequence[str]) -> str:
    start = f"{layer}.weight".replace(".", "_")
    found = [name for name in names if name in (start, f"{start}_to_fp16")]
    if len(found) != 1:
        raise BlipEdgeError(f"Core ML's converter has no weight {start!r}; please report this")
    return found[0]
