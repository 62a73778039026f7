"""Ranges by onnxruntime.quantization's calibrators, on the network as an ONNX file.

min-max, percentile and entropy are its own; its fourth, distribution, is for 8-bit floats. A
histogram has 128 bins (entropy) or 2048 (percentile) over [-max|x|, max|x|].
Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blip_edge.errors import import_extra
from blip_edge.models.folder import Model
from blip_edge.quantize.engines.onnx_whole import PRODUCTS, OnnxWhole, write_whole
from blip_edge.quantize.engines.steps import Span, joined
from blip_edge.quantize.engines.whole import Whole, feeds_of
from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.quantize.uses import Use
from blip_edge.quiet import quiet

__all__ = ["find_ranges", "require"]

_METHODS = {"min-max": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}


def find_ranges(
    model: Model, seen: Sequence[Use], recipe: QuantizeRecipe, judge: object
) -> dict[str, Span | None]:
    """The range of each product's input, by the path of its layer.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
    """
    onnx = require()
    whole, feeds = Whole(model), feeds_of(model, seen)
    with TemporaryDirectory() as scratch:
        network = write_whole(whole, feeds, Path(scratch))
        with quiet():
            calibrator = _calibrator(network, recipe, Path(scratch))
            for inputs in network.inputs(feeds):
                # One at a time: its histograms take arrays of one shape.
                calibrator.collect_data(_once(inputs))
            ranges = calibrator.compute_data().data
        nodes = onnx.load(str(network.path), load_external_data=False).graph.node
    found: dict[str, Span | None] = {}
    for node in nodes:
        if node.name in network.layers and node.input[0] in ranges:
            low, high = (float(end.item()) for end in ranges[node.input[0]].range_value)
            path = network.layers[node.name]
            found[path] = joined(found.get(path), (low, high))
    return found


def require() -> Any:
    """The onnx package; onnxruntime itself is always there.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
    """
    import_extra("onnxscript", "onnx")
    return import_extra("onnx", "onnx")


def _calibrator(network: OnnxWhole, recipe: QuantizeRecipe, scratch: Path) -> Any:
    calibrate = import_extra("onnxruntime.quantization.calibrate", "onnx")
    return calibrate.create_calibrator(
        network.path,
        op_types_to_calibrate=list(PRODUCTS),
        augmented_model_path=str(scratch / "augmented.onnx"),
        calibrate_method=calibrate.CalibrationMethod[_METHODS[recipe.range_observer]],
        use_external_data_format=network.large,
        extra_options={"symmetric": False, "percentile": recipe.percentile},
    )


def _once(inputs: Mapping[str, Any]) -> Any:
    calibrate = import_extra("onnxruntime.quantization.calibrate", "onnx")

    class Reader(calibrate.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self._left = [inputs]

        def get_next(self) -> Mapping[str, Any] | None:
            return self._left.pop() if self._left else None

    return Reader()
