"""Which layers compute with integers, and a network whose layers do as they will on a device.

`quantize` decides, writes `quantization.json` beside the float weights, and every reader derives
the same integers from the two: the exporters write them into graphs, and the layers of
`quantized_layers` are their twins in torch, so that a model is measured at the precision that it
will have.

The linear layers inside the towers' blocks take part, and the language-model head, which is most of
what a decoding step reads; the word table that it shares is rounded with it. Other word tables are
stored as integers, being much of a small tower that reads. Patch embedding, LayerNorm, softmax, the
products of attention and the projections lose the most and cost the least.
"""

import re
from pathlib import Path

from torch import nn

from blip_edge.errors import ArtifactError
from blip_edge.models.bert import WordProduct
from blip_edge.models.blip import Blip
from blip_edge.models.decisions import FILE, Form, LayerDecision, Quantization
from blip_edge.models.quantized_layers import (
    DynamicLinear,
    GroupedLinear,
    QuantizedLayer,
    QuantizedLinear,
    QuantizedWords,
    WeightOnlyLinear,
    quantize_weight,
    twin_of,
)

__all__ = [
    "HEAD",
    "DynamicLinear",
    "Form",
    "GroupedLinear",
    "LayerDecision",
    "Quantization",
    "QuantizedLayer",
    "QuantizedLinear",
    "QuantizedWords",
    "WeightOnlyLinear",
    "apply_quantization",
    "is_table",
    "quantizable_layers",
    "quantizable_tables",
    "quantize_weight",
    "runs_at_every_step",
    "twin_of",
    "weight_bytes",
]

HEAD = "text_decoder.cls.predictions.decoder"
"""The path of the language-model head."""
_TABLE = "embeddings.word_embeddings"
_WORDS = f"text_decoder.bert.{_TABLE}"
# Keys and values of what is read: made once for all steps, by the graph that runs before.
_READ_ONCE = re.compile(r"\.crossattention\.self\d?\.(key|value)$")
_IN_A_BLOCK = re.compile(r"(^|\.)encoder\.layers?\.\d+\.")  # the image tower's, the text tower's


def runs_at_every_step(path: str) -> bool:
    """Whether the layer at `path` is one of those that a decoder runs for each token it says."""
    return path.startswith("text_decoder.") and not _READ_ONCE.search(path)


def quantizable_layers(blip: Blip) -> dict[str, nn.Linear]:
    """The layers that may compute in 8 bits, by path, in the network's order.

    Those inside the towers' blocks, a shared one once and empty ones never, and the language-model
    head as a layer around the weights that it shares.
    """
    layers = {}
    for path, module in blip.named_modules():
        if isinstance(module, WordProduct):
            layers[path] = _head(blip)
        elif isinstance(module, nn.Linear) and _IN_A_BLOCK.search(path) and module.weight.numel():
            layers[path] = module
    return layers


def quantizable_tables(blip: Blip) -> dict[str, nn.Embedding]:
    """The word tables that no head shares, by path, in the network's order."""
    decoder = blip.text_decoder
    of_head = None if decoder is None else decoder.bert.embeddings.word_embeddings
    return {
        path: module
        for path, module in blip.named_modules()
        if is_table(path) and isinstance(module, nn.Embedding) and module is not of_head
    }


def is_table(path: str) -> bool:
    """Whether what is at `path` is looked up, and multiplies nothing."""
    return path.endswith(_TABLE)


def _head(blip: Blip) -> nn.Linear:
    words = blip.decoder.bert.embeddings.word_embeddings.weight
    layer = nn.Linear(words.shape[1], words.shape[0], device="meta")
    layer.weight, layer.bias = words, blip.decoder.cls.predictions.bias
    return layer


def apply_quantization(
    blip: Blip, quantization: Quantization, *, source: Path | str = FILE
) -> Blip:
    """Replace, in place, the layers whose weights become integers; returns `blip`.

    Raises:
        ArtifactError: a decision names a layer that this network has not, or groups that do not
            divide a layer's inputs; `source` is named.
    """
    layers, tables = quantizable_layers(blip), quantizable_tables(blip)
    unknown = [path for path in quantization.layers if path not in {**layers, **tables}]
    if unknown:
        raise ArtifactError(
            f"{source}: {unknown[0]!r} is no layer of this model that can be quantized "
            f"({len(unknown)} such names); run `blip-edge quantize` on the model again"
        )
    for path in quantization.int8_layers:
        try:
            twin = twin_of(layers.get(path) or tables[path], quantization.layers[path])
        except ValueError as error:
            raise ArtifactError(f"{source}: layer {path}: {error}") from None
        blip.set_submodule(path, twin, strict=True)
        if path == HEAD:
            words = QuantizedWords(twin.weight, twin.weight_scale)
            blip.set_submodule(_WORDS, words, strict=True)
            blip.decoder.cls.predictions.register_parameter("bias", None)  # the twin has it
    return blip


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights and scales as they are held, shared ones counted once."""
    return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
