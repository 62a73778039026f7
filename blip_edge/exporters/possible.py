"""What of an export's recipe goes together with the model and the target, before work begins."""

from pathlib import Path

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.exporters.recipe import ExportRecipe, Precision
from blip_edge.exporters.target import Maker
from blip_edge.models.quantized import Form, Quantization

__all__ = ["precision_of"]


def precision_of(model: Path, target: str, maker: Maker, recipe: ExportRecipe) -> Precision:
    """The precision that `recipe` asks for, or means.

    Args:
        model: a MODEL folder.
        target: what `maker` is called.
        maker: of the target's bundles.
        recipe: all of it is looked at.

    Raises:
        UsageError: the target has not what is asked for.
        ArtifactError: the model was not quantized, or not as is asked for.
    """
    quantized = Quantization.is_in(model)
    precision = recipe.precision
    if precision == "auto":
        asked = quantized or recipe.activations == "int8"
        precision = "int8" if asked else maker.precisions[0]
    if precision not in maker.precisions:
        known = ", ".join(sorted(maker.precisions))
        raise UsageError(f"{target} bundles are {known}, not {precision}")
    if precision == "int8" and not quantized:
        raise ArtifactError(
            f"{model} was not quantized (quantization.json); run `blip-edge quantize` first"
        )
    if recipe.palette_bits and (target != "coreml" or precision == "int8"):
        raise UsageError(
            f"palette_bits is for Core ML in fp16 or fp32; {target} in {precision} has no palettes"
        )
    if recipe.autotune and (precision != "int8" or not maker.forms):
        raise UsageError(
            "autotune is for int8 on ONNX Runtime or OpenVINO, which run here; "
            f"{target} in {precision} leaves nothing to choose"
        )
    if recipe.encoders == "openvino":
        _check_encoders(model, target, precision)
    if recipe.multifunction and target != "coreml":
        raise UsageError(f"multifunction is for Core ML; {target} has a file for each graph")
    if recipe.activations == "int8":
        _check_activations(model, target, precision)
    return precision


def _check_encoders(model: Path, target: str, precision: Precision) -> None:
    if target != "onnx":
        raise UsageError(f"encoders is for ONNX; all graphs for {target} are run by one runtime")
    if precision == "int8" and "dynamic" in _forms(model):
        raise ArtifactError(
            f"{model} has dynamic layers, which OpenVINO does not read from ONNX files; run "
            "`blip-edge quantize --set mode=static` on the float model, or leave encoders alone"
        )


def _check_activations(model: Path, target: str, precision: Precision) -> None:
    if target != "coreml" or precision != "int8":
        raise UsageError(f"activations is for Core ML in int8, not for {target} in {precision}")
    if "static" not in (forms := _forms(model)):
        raise ArtifactError(
            f"{model}: no layer has a range for its inputs (quantization.json has "
            f"{', '.join(sorted(forms)) or 'no layers'}), which activations=int8 takes; run "
            "`blip-edge quantize --mode static` on the float model"
        )


def _forms(model: Path) -> set[Form]:
    return {layer.form for layer in Quantization.load(model).layers.values()}
