"""ExecuTorch: every task in float32, sizes free up to bounds."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from blip_edge.errors import UsageError
from blip_edge.exporters.candidates import DECIDED
from blip_edge.exporters.executorch import BoundedDecoderGraph, write_executorch
from blip_edge.exporters.graphs import DecoderGraph, Graph, graphs_of
from blip_edge.exporters.recipe import ExportRecipe, Precision
from blip_edge.models.folder import Model
from blip_edge.models.quantized import Form
from blip_edge.runtime.engine import Task
from blip_edge.training.engine import edge_model

__all__ = ["ExecuTorchTarget"]

# Tokens of a text at most: BLIP keeps 35, or 40 words of a sentence about two pictures.
_TEXT = 64
_TEXTS = 64  # at once
_ROWS = 3  # at least, as graphs are traced with so many
_SHORTEST, _SHORTEST_TEXT = 4, 6  # as they are traced, and tried, with fewer


class ExecuTorchTarget:
    """ExecuTorch programs for XNNPACK."""

    ending: ClassVar[str] = "pte"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32",)
    forms: ClassVar[tuple[Form, ...]] = ()
    packages: ClassVar[Mapping[str, str]] = {"torch": "train", "executorch": "executorch"}

    def form(self, recipe: ExportRecipe) -> str:
        return DECIDED

    def reference(self, loaded: Model) -> Model:
        return loaded

    def tasks(self, reference: Model) -> tuple[Task, ...]:
        return edge_model(reference).engine.tasks

    def graphs(self, reference: Model, recipe: ExportRecipe) -> list[Graph]:
        positions = reference.config.text_config.max_position_embeddings
        if recipe.text_length:
            _check("text_length", recipe.text_length, _SHORTEST_TEXT, positions)
        graphs = graphs_of(reference.blip)
        if not isinstance(graphs[-1], DecoderGraph):
            return graphs
        # torch.export proves P + T <= positions for any P and T, of which it takes each for 2.
        most = positions - 2
        rows = max(recipe.rows or reference.generation.rows, _ROWS)
        length = recipe.length or min(
            max(reference.generation.max_length, recipe.teacher_forced), most
        )
        _check("length", length, _SHORTEST, most)
        return [*graphs[:-1], BoundedDecoderGraph(reference.blip, rows=rows, length=length)]

    def write(self, graph: Graph, path: Path, precision: Precision, recipe: ExportRecipe) -> None:
        text = recipe.text_length or min(_TEXT, graph.config.text_config.max_position_embeddings)
        bounds = {"R": recipe.text_rows or _TEXTS, "T": text, "N": text}
        if isinstance(graph, BoundedDecoderGraph):
            rows, length = graph.rows, graph.length
            bounds = {"R": rows, "Q": rows, "T": length, "P": length - 1, "N": text}
        write_executorch(graph, path, bounds=bounds)

    def join(
        self, graphs: Sequence[Graph], folder: Path, recipe: ExportRecipe
    ) -> dict[str, dict[str, str]]:
        return {}

    def notes(self, precision: Precision, forms: Collection[Form]) -> list[str]:
        return []


def _check(key: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{key} must be {least} to {most} for this model, got {value}")
