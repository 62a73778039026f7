"""Core ML: every size fixed, weights as integers where `quantize` said so."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from blip_edge.errors import UsageError
from blip_edge.exporters.candidates import HEAD_IN_FLOAT, WEIGHT_ONLY
from blip_edge.exporters.coreml import write_coreml
from blip_edge.exporters.coreml_functions import join_functions
from blip_edge.exporters.coreml_layers import RoundedWeights, RoundedWords, round_layers
from blip_edge.exporters.coreml_words import facts_of
from blip_edge.exporters.graphs import (
    Graph,
    ImageVisionGraph,
    MatchGraph,
    ReasonGraph,
    StatefulDecoderGraph,
    StaticDecoderGraph,
    StaticQuestionGraph,
    TextGraph,
    VisionGraph,
    fixed,
)
from blip_edge.exporters.recipe import ExportRecipe, Precision
from blip_edge.models.folder import Model
from blip_edge.models.quantized import Form
from blip_edge.runtime.engine import Task
from blip_edge.training.engine import edge_model

__all__ = ["CoreMLTarget"]

# Tokens that BLIP reads of a text or a question at most; its sentences about two pictures have up
# to 40 words; listed answers are longer than those that it says.
_TEXT, _SENTENCE, _ANSWER = 35, 64, 16
_ROWS = 8  # texts at once

_WEIGHTS_ALONE = (
    "Core ML: integers are the weights alone, of any mode; products are computed in half precision."
)
_INPUTS_TOO = (
    "Core ML: inputs of static layers are rounded to 8 bits too. Neural Engines from A17 Pro and "
    "M4 on multiply those in 8 bits, all else computes in half precision. Of any other layer, and "
    "of the head, integers are the weights alone."
)


class CoreMLTarget:
    """Core ML programs of every task."""

    ending: ClassVar[str] = "mlpackage"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp16", "fp32", "int8")
    forms: ClassVar[tuple[Form, ...]] = ()
    packages: ClassVar[Mapping[str, str]] = {"torch": "train", "coremltools": "coreml"}

    def form(self, recipe: ExportRecipe) -> str:
        return HEAD_IN_FLOAT if recipe.activations == "int8" else WEIGHT_ONLY

    def reference(self, loaded: Model) -> Model:
        """Its layers with integers compute in float, with what their integers stand for."""
        round_layers(loaded.blip)
        return loaded

    def tasks(self, reference: Model) -> tuple[Task, ...]:
        return edge_model(reference).engine.tasks

    def graphs(self, reference: Model, recipe: ExportRecipe) -> list[Graph]:
        blip, parts = reference.blip, reference.config.parts
        length = _text_length(reference, recipe)
        texts = {"R": recipe.text_rows or _ROWS, "T": length}
        pictures = ImageVisionGraph(blip, reference.preprocess) if recipe.image_input else None
        graphs: list[Graph] = [pictures or VisionGraph(blip)]
        if parts.compares:
            graphs += [fixed(TextGraph(blip), texts), fixed(MatchGraph(blip), texts)]
        if parts.twin:
            graphs.append(fixed(ReasonGraph(blip), texts))
        if parts.decoder and not reference.config.captions:
            graphs.append(StaticQuestionGraph(blip, length=length))
        if parts.decoder:
            graphs.append(_decoder(reference, recipe, length))
        facts = facts_of(reference, self.tasks(reference))
        for graph in graphs:
            graph.facts = facts
        return graphs

    def write(self, graph: Graph, path: Path, precision: Precision, recipe: ExportRecipe) -> None:
        groups = {
            layer: module.group
            for layer, module in graph.named_modules()
            if isinstance(module, RoundedWeights | RoundedWords) and graph.runs(layer)
        }
        write_coreml(graph, path, precision=precision, recipe=recipe, groups=groups)

    def join(
        self, graphs: Sequence[Graph], folder: Path, recipe: ExportRecipe
    ) -> dict[str, dict[str, str]]:
        return join_functions(graphs, folder) if recipe.multifunction else {}

    def notes(self, precision: Precision, forms: Collection[Form]) -> list[str]:
        if precision != "int8":
            return []
        return [_INPUTS_TOO] if "static" in forms else [_WEIGHTS_ALONE]


def _decoder(reference: Model, recipe: ExportRecipe, question: int) -> Graph:
    generation = reference.generation
    longest = generation.max_length
    if not reference.config.captions:
        longest = min(max(longest, _ANSWER), _positions(reference))
    rows, length = recipe.rows or generation.rows, recipe.length or longest
    _check_length(reference, "length", length)
    decoder = StatefulDecoderGraph if recipe.ios >= 18 else StaticDecoderGraph
    return decoder(reference.blip, rows=rows, length=length, question=question)


def _text_length(reference: Model, recipe: ExportRecipe) -> int:
    longest = _SENTENCE if reference.config.parts.twin else _TEXT
    length = recipe.text_length or min(longest, _positions(reference))
    _check_length(reference, "text_length", length)
    return length


def _check_length(reference: Model, key: str, length: int) -> None:
    positions = _positions(reference)
    if length > positions:
        raise UsageError(f"{key} {length} is more than the model's {positions} positions")


def _positions(reference: Model) -> int:
    return reference.config.text_config.max_position_embeddings
