"""Core ML: every size fixed, weights in 8 bits where `quantize` said so."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import nn

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.exporters.coreml import write_coreml
from blip_edge.exporters.graphs import Graph, StaticDecoderGraph, VisionGraph
from blip_edge.exporters.recipe import ExportRecipe, Precision
from blip_edge.models.folder import Model
from blip_edge.models.quantized import Quantization, QuantizedLinear
from blip_edge.runtime.engine import Task

__all__ = ["CoreMLTarget"]

_WEIGHT_ONLY = "Core ML: int8 is that of the weights; products are computed in half precision."


class CoreMLTarget:
    """Core ML programs, of captioners so far."""

    ending: ClassVar[str] = "mlpackage"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp16", "fp32", "int8")
    packages: ClassVar[Mapping[str, str]] = {"torch": "train", "coremltools": "coreml"}

    def reference(self, loaded: Model) -> Model:
        """Its 8-bit layers compute in float, with the weights that the integers stand for."""
        if not loaded.config.captions:
            raise ArtifactError(
                f"the model is a {loaded.config.architecture}; only captioners become Core "
                "ML bundles so far, every model ONNX and OpenVINO ones"
            )
        for path, module in list(loaded.blip.named_modules()):
            if isinstance(module, QuantizedLinear):
                loaded.blip.set_submodule(path, _weights_only(module))
        return loaded

    def tasks(self, reference: Model) -> tuple[Task, ...]:
        return ("caption",)

    def graphs(self, reference: Model, recipe: ExportRecipe) -> list[Graph]:
        blip, generation = reference.blip, reference.generation
        length = recipe.length or generation.max_length
        positions = blip.config.text_config.max_position_embeddings
        if length > positions:
            raise UsageError(f"length {length} is more than the model's {positions} positions")
        rows = recipe.rows or generation.rows
        return [VisionGraph(blip), StaticDecoderGraph(blip, rows=rows, length=length)]

    def write(
        self,
        graph: Graph,
        path: Path,
        *,
        precision: Precision,
        recipe: ExportRecipe,
        quantization: Quantization | None,
    ) -> None:
        layers = quantization.int8_layers if quantization else []
        int8 = [layer for layer in layers if graph.runs(layer)]
        write_coreml(graph, path, precision=precision, int8=int8)

    def notes(self, precision: Precision) -> list[str]:
        return [_WEIGHT_ONLY] if precision == "int8" else []


def _weights_only(layer: QuantizedLinear) -> nn.Linear:
    linear = nn.Linear(layer.in_features, layer.out_features)
    linear.weight.data.copy_(layer.dequantize_weight())
    linear.bias.data.copy_(layer.bias)
    return linear.eval()
