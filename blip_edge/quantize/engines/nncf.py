"""Ranges by NNCF's post-training quantization, on the network as an ONNX model.

`nncf.quantize` puts pairs of QuantizeLinear and DequantizeLinear before products, or further up
where only shapes change on the way; they are read off. Its smoothing and its correction of biases
are off, as both change weights: smoothing is a key of ours, and the written weights stay the
model's own.
Source: https://github.com/openvinotoolkit/nncf, docs/usage/post_training_compression.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blip_edge.errors import import_extra
from blip_edge.models.folder import Model
from blip_edge.quantize.engines.onnx_whole import write_whole
from blip_edge.quantize.engines.steps import Span, joined, span_of
from blip_edge.quantize.engines.whole import Whole, feeds_of
from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.quantize.uses import Use
from blip_edge.quiet import quiet

__all__ = ["find_ranges", "require"]

_SHAPES_ONLY = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Split", "Slice"}
_OFF = -1  # of SmoothQuant's alpha
_LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}


def find_ranges(
    model: Model, seen: Sequence[Use], recipe: QuantizeRecipe, judge: object
) -> dict[str, Span | None]:
    """The range of each product's input, by the path of its layer; None where it is in float.

    Raises:
        MissingExtraError: nncf, onnx or onnxscript is not installed.
    """
    nncf, onnx = require(), import_extra("onnx", "nncf")
    whole, feeds = Whole(model), feeds_of(model, seen)
    with TemporaryDirectory() as scratch:
        network = write_whole(whole, feeds, Path(scratch))
        with quiet():
            quantized = nncf.quantize(
                onnx.load(str(network.path)),
                nncf.Dataset(network.inputs(feeds)),
                subset_size=len(feeds),
                model_type=nncf.ModelType.TRANSFORMER,
                advanced_parameters=_parameters(recipe),
            )
    graph = _Graph(onnx, quantized.graph)
    found: dict[str, Span | None] = {}
    for node in quantized.graph.node:
        if (path := network.layers.get(node.name)) is not None:
            found[path] = joined(found.get(path), graph.span(node.input[0]))
    return found


def require() -> Any:
    """The package, which would tell its makers of every run if nothing kept it from that.

    Raises:
        MissingExtraError: it, onnx or onnxscript is not installed.
    """
    import_extra("onnx", "nncf")
    import_extra("onnxscript", "nncf")
    os.environ.setdefault("NNCF_CI", "1")
    with quiet():
        return import_extra("nncf", "nncf")


def _parameters(recipe: QuantizeRecipe) -> Any:
    """How NNCF takes a range, and nothing that would change weights."""
    advanced = import_extra("nncf.quantization.advanced_parameters", "nncf")
    estimator = import_extra("nncf.quantization.range_estimator", "nncf")
    outside = (1 - recipe.percentile / 100) / 2
    ends = estimator.StatisticsCollectorParameters
    taken = {
        "mean-min-max": estimator.RangeEstimatorParametersSet.MEAN_MINMAX,
        "min-max": estimator.RangeEstimatorParametersSet.MINMAX,
        "percentile": estimator.RangeEstimatorParameters(
            *(
                ends(
                    statistics_type=estimator.StatisticsType.QUANTILE,
                    aggregator_type=estimator.AggregatorType.MEAN,
                    quantile_outlier_prob=outside,
                )
                for _ in ("min", "max")
            )
        ),
    }
    return advanced.AdvancedQuantizationParameters(
        disable_bias_correction=True,
        smooth_quant_alphas=advanced.AdvancedSmoothQuantParameters(convolution=_OFF, matmul=_OFF),
        activations_range_estimator_params=taken[recipe.range_observer],
    )


class _Graph:
    """Where the tensors of an ONNX graph come from."""

    def __init__(self, onnx: Any, graph: Any) -> None:
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._values = {
            weight.name: onnx.numpy_helper.to_array(weight)
            for weight in graph.initializer
            if not weight.dims
        }

    def span(self, name: str) -> Span | None:
        """The range of the steps that a tensor was rounded to, None if it was not."""
        node = self._made_by.get(name)
        while node is not None and node.op_type in _SHAPES_ONLY:
            node = self._made_by.get(node.input[0])
        if node is None or node.op_type != "DequantizeLinear" or len(node.input) != 3:
            return None
        scale, zero = self._values.get(node.input[1]), self._values.get(node.input[2])
        if scale is None or zero is None:
            return None
        return span_of(scale.item(), zero.item(), *_LIMITS[str(zero.dtype)])
