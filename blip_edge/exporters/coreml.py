"""Graphs to Core ML programs (.mlpackage), for iOS 17 and macOS 14 on.

Shapes are fixed and masks finite, which is what the Neural Engine runs. Conversion works on Linux;
Core ML itself does not, so that the result is read back and evaluated by `runtime.mil` there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blip_edge import __version__
from blip_edge.errors import BlipEdgeError
from blip_edge.exporters.coreml_fixes import converting
from blip_edge.exporters.graphs import Graph
from blip_edge.exporters.recipe import Precision

__all__ = ["write_coreml"]

_WHAT = {
    "vision": "BLIP's image tower: a picture to the keys and values that texts read.",
    "text": "BLIP's text tower: texts to unit vectors.",
    "itm": "BLIP's matching head: texts, read with a picture in view, to match or no match.",
    "reason": "BLIP's judge: whether a sentence is true of two pictures.",
    "question": "BLIP's question encoder: a question to what its answer is decoded from.",
    "decoder": "BLIP's decoder: one token more, for every beam.",
}


def write_coreml(
    graph: Graph, path: Path, *, precision: Precision, int8: Sequence[str] = ()
) -> None:
    """Write `graph`, whose sizes are all fixed, to the folder `path`.

    Args:
        graph: its 8-bit layers already replaced by float ones with the same weights.
        path: ends in .mlpackage.
        precision: fp32 computes in single, fp16 and int8 in half precision.
        int8: paths of the linear layers whose weights are stored in 8 bits.

    Raises:
        MissingExtraError: coremltools is not installed.
    """
    with converting() as tools:
        with torch.inference_mode():
            traced = torch.jit.trace(graph.eval(), graph.examples(), check_trace=False)
        half = tools.precision.FLOAT16
        program = tools.convert(
            traced,
            convert_to="mlprogram",
            inputs=[
                tools.TensorType(name, shape=port.shape, dtype=np.dtype(port.dtype).type)
                for name, port in graph.inputs.items()
            ],
            outputs=[tools.TensorType(name, dtype=np.float32) for name in graph.outputs],
            compute_precision=tools.precision.FLOAT32 if precision == "fp32" else half,
            minimum_deployment_target=tools.target.iOS17,
            skip_model_load=True,
        )
        if int8:
            program = _in_8_bits(tools, program, int8)
        program.author = "blip-edge"
        program.license = "As the model's weights; see the README beside this file."
        program.short_description = _WHAT[graph.name]
        program.version = __version__
        program.save(str(path))


def _in_8_bits(tools: Any, program: Any, layers: Sequence[str]) -> Any:
    """Store the weights of `layers` as int8, symmetric per output channel, as `quantize` chose."""
    optimize = tools.optimize.coreml
    operations = program._mil_program.functions["main"].operations
    names = [str(operation.name) for operation in operations if operation.op_type == "const"]
    settings = optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=0
    )
    chosen = {_weight_name(layer, names): settings for layer in layers}
    config = optimize.OptimizationConfig(op_name_configs=chosen)
    return optimize.linear_quantize_weights(program, config)


def _weight_name(layer: str, names: Sequence[str]) -> str:
    start = f"{layer}.weight".replace(".", "_")
    found = [name for name in names if name in (start, f"{start}_to_fp16")]
    if len(found) != 1:
        raise BlipEdgeError(f"Core ML's converter has no weight {start!r}; please report this")
    return found[0]
