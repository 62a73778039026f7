"""The targets whose graphs leave sizes free: ONNX Runtime and OpenVINO."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from blip_edge.exporters.candidates import DECIDED
from blip_edge.exporters.graphs import Graph, graphs_of
from blip_edge.exporters.half import beside_integers
from blip_edge.exporters.onnx import write_onnx
from blip_edge.exporters.openvino import write_openvino
from blip_edge.exporters.recipe import ExportRecipe, Precision
from blip_edge.exporters.weights_only import without_dynamic
from blip_edge.models.folder import Model
from blip_edge.models.quantized import Form
from blip_edge.runtime.engine import Task
from blip_edge.training.engine import edge_model

__all__ = ["OnnxTarget", "OpenVinoTarget"]

_ONNX = {"torch": "train", "onnx": "onnx", "onnxscript": "onnx"}

_NO_DYNAMIC = (
    "OpenVINO: of dynamic layers the weights alone are integers in the file; its plugin rounds "
    "their inputs by itself, group by group."
)


class _Dynamic:
    """Every task, of any model."""

    def form(self, recipe: ExportRecipe) -> str:
        return DECIDED

    def reference(self, loaded: Model) -> Model:
        return loaded

    def tasks(self, reference: Model) -> tuple[Task, ...]:
        return edge_model(reference).engine.tasks

    def graphs(self, reference: Model, recipe: ExportRecipe) -> list[Graph]:
        return graphs_of(reference.blip)

    def join(
        self, graphs: Sequence[Graph], folder: Path, recipe: ExportRecipe
    ) -> dict[str, dict[str, str]]:
        return {}

    def notes(self, precision: Precision, forms: Collection[Form]) -> list[str]:
        return []


class OnnxTarget(_Dynamic):
    """ONNX files for ONNX Runtime."""

    ending: ClassVar[str] = "onnx"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    forms: ClassVar[tuple[Form, ...]] = ("static", "dynamic", "weight-only")
    packages: ClassVar[Mapping[str, str]] = {**_ONNX, "onnxruntime": "onnx"}

    def reference(self, loaded: Model) -> Model:
        beside_integers(loaded.blip)
        return loaded

    def write(self, graph: Graph, path: Path, precision: Precision, recipe: ExportRecipe) -> None:
        write_onnx(graph, path, opset=recipe.opset, half=precision != "fp32")


class OpenVinoTarget(_Dynamic):
    """OpenVINO's intermediate representation."""

    ending: ClassVar[str] = "xml"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    forms: ClassVar[tuple[Form, ...]] = ("static", "weight-only")
    packages: ClassVar[Mapping[str, str]] = {**_ONNX, "openvino": "openvino"}

    def reference(self, loaded: Model) -> Model:
        without_dynamic(loaded.blip)
        return loaded

    def write(self, graph: Graph, path: Path, precision: Precision, recipe: ExportRecipe) -> None:
        write_openvino(graph, path, precision=precision, opset=recipe.opset)

    def notes(self, precision: Precision, forms: Collection[Form]) -> list[str]:
        return [_NO_DYNAMIC] if "dynamic" in forms else []
