"""Core ML: every size fixed, weights as integers where `quantize` said so."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

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
from blip_edge.models.quantized import HEAD, Form, QuantizedLayer, QuantizedWords
from blip_edge.models.quantized_layers import dequantize
from blip_edge.runtime.engine import Task
from blip_edge.training.engine import edge_model

__all__ = ["CoreMLTarget"]

# Tokens that BLIP reads of a text or a question at most; its sentences about two pictures have up
# to 40 words; listed answers are longer than those that it says.
_TEXT, _SENTENCE, _ANSWER = 35, 64, 16
_ROWS = 8  # texts at once

_WEIGHT_ONLY = (
    "Core ML: integers are the weights alone, of any mode; products are computed in half precision."
)


class CoreMLTarget:
    """Core ML programs of every task."""

    ending: ClassVar[str] = "mlpackage"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp16", "fp32", "int8")
    forms: ClassVar[tuple[Form, ...]] = ()
    packages: ClassVar[Mapping[str, str]] = {"torch": "train", "coremltools": "coreml"}

    def reference(self, loaded: Model) -> Model:
        """Its layers with integers compute in float, with the weights that those stand for."""
        blip = loaded.blip
        for path, module in list(blip.named_modules()):
            if isinstance(module, QuantizedWords):
                # The head reads its table again, so that the file holds it once.
                blip.set_submodule(path, _RoundedWords(module))
                bias = nn.Parameter(blip.get_submodule(HEAD).get_buffer("bias"))
                blip.decoder.cls.predictions.bias = bias
                blip.set_submodule(HEAD, WordProduct())
            elif isinstance(module, QuantizedLayer) and path != HEAD:
                blip.set_submodule(path, _RoundedWeights(module))
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
            if isinstance(module, _RoundedWeights | _RoundedWords) and graph.runs(layer)
        }
        write_coreml(graph, path, precision=precision, recipe=recipe, groups=groups)

    def notes(self, precision: Precision, forms: Collection[Form]) -> list[str]:
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


class _RoundedWeights(nn.Linear):
    """A layer in float whose weights are those that integers stand for."""

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__(layer.in_features, layer.out_features)
        self.weight.data.copy_(layer.dequantize_weight())
        self.bias.data.copy_(layer.bias)
        self.group = _group(layer.weight)
        self.eval()


class _RoundedWords(nn.Embedding):
    """The same of a word table."""

    def __init__(self, words: QuantizedWords) -> None:
        table = dequantize(words.weight, words.weight_scale)
        super().__init__(table.shape[0], table.shape[1], _weight=table)
        self.group = _group(words.weight)
        self.eval()


def _group(weight: Tensor) -> int | None:
    """Inputs that share a scale, of packed weights."""
    return 2 * weight.shape[-1] if weight.dtype == torch.uint8 else None
