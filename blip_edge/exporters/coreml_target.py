"""Core ML: every size fixed, weights in 8 bits where `quantize` said so."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import nn

from blip_edge.errors import UsageError
from blip_edge.exporters.coreml import write_coreml
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
from blip_edge.models.bert import WordProduct
from blip_edge.models.folder import Model
from blip_edge.models.quantized import HEAD, QuantizedLinear, QuantizedWords
from blip_edge.runtime.engine import Task
from blip_edge.training.engine import edge_model

__all__ = ["CoreMLTarget"]

# Tokens that BLIP reads of a text or a question at most; its sentences about two pictures have up
# to 40 words; listed answers are longer than those that it says.
_TEXT, _SENTENCE, _ANSWER = 35, 64, 16
_ROWS = 8  # texts at once

_WEIGHT_ONLY = "Core ML: int8 is that of the weights; products are computed in half precision."


class CoreMLTarget:
    """Core ML programs of every task."""

    ending: ClassVar[str] = "mlpackage"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp16", "fp32", "int8")
    packages: ClassVar[Mapping[str, str]] = {"torch": "train", "coremltools": "coreml"}

    def reference(self, loaded: Model) -> Model:
        """Its 8-bit layers compute in float, with the weights that the integers stand for."""
        blip = loaded.blip
        for path, module in list(blip.named_modules()):
            if isinstance(module, QuantizedWords):
                # The head reads its table again, so that the file holds it once.
                blip.set_submodule(path, _Int8Words(module))
                bias = nn.Parameter(blip.get_submodule(HEAD).get_buffer("bias"))
                blip.decoder.cls.predictions.bias = bias
                blip.set_submodule(HEAD, WordProduct())
            elif isinstance(module, QuantizedLinear) and path != HEAD:
                blip.set_submodule(path, _Int8Weights(module))
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
        int8 = [
            layer
            for layer, module in graph.named_modules()
            if isinstance(module, _Int8Weights | _Int8Words) and graph.runs(layer)
        ]
        write_coreml(graph, path, precision=precision, recipe=recipe, int8=int8)

    def notes(self, precision: Precision) -> list[str]:
        return [_WEIGHT_ONLY] if precision == "int8" else []


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


class _Int8Weights(nn.Linear):
    """A layer in float whose weights are those that 8-bit integers stand for."""

    def __init__(self, layer: QuantizedLinear) -> None:
        super().__init__(layer.in_features, layer.out_features)
        self.weight.data.copy_(layer.dequantize_weight())
        self.bias.data.copy_(layer.bias)
        self.eval()


class _Int8Words(nn.Embedding):
    """The same of a word table."""

    def __init__(self, words: QuantizedWords) -> None:
        table = words.weight.float() * words.weight_scale[:, None]
        super().__init__(table.shape[0], table.shape[1], _weight=table)
        self.eval()
