"""Layers that round as their 8-bit twins do, and pass gradients straight through.

In the forward pass weights and inputs are exactly what the twin would compute with. In the backward
pass rounding counts as the identity, and as nothing where an input is cut off at its range's end.
Source: Bengio et al. (arXiv 1308.3432) for the estimator, Jacob et al. (arXiv 1712.05877) for its
use in training.
"""

# O output channels · I input channels

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.models.quantized import (
    HEAD,
    LayerDecision,
    quantizable_layers,
    quantizable_tables,
    twin_of,
)

__all__ = ["fake_quantized", "with_weights_of"]

_WORDS = "text_decoder.bert.embeddings.word_embeddings"


def fake_quantized(blip: Blip, decisions: Mapping[str, LayerDecision]) -> Blip:
    """A copy of `blip` to train, whose layers round as `decisions` say; its weights stay float."""
    student = deepcopy(blip).requires_grad_()
    for path, table in quantizable_tables(student).items():
        if (decision := decisions[path]).decision == "int8":
            student.set_submodule(path, _Words(table, decision), strict=True)
    for path, layer in quantizable_layers(student).items():
        if (decision := decisions[path]).decision == "float":
            continue
        if path == HEAD:
            words = student.decoder.bert.embeddings.word_embeddings
            student.set_submodule(_WORDS, _Words(words, decision), strict=True)
            student.set_submodule(path, _WordProduct(decision), strict=True)
        else:
            student.set_submodule(path, _Linear(layer, decision), strict=True)
    return student


def with_weights_of(blip: Blip, trained: Blip) -> Blip:
    """A copy of `blip` whose weights are those that a `fake_quantized` copy of it learned."""
    found = deepcopy(blip)
    found.load_state_dict(trained.state_dict())
    return found.requires_grad_(False).eval()


class _Linear(nn.Linear):
    """A linear layer that rounds; it has the weights of the one that it is made of."""

    def __init__(self, layer: nn.Linear, decision: LayerDecision) -> None:
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self._decision = decision

    def forward(self, x: Tensor) -> Tensor:
        return _product(x, self, self._decision)


class _WordProduct(nn.Module):
    """The head's product, rounded."""

    def __init__(self, decision: LayerDecision) -> None:
        super().__init__()
        self._decision = decision

    def forward(self, hidden: Tensor, words: Tensor, bias: Tensor | None) -> Tensor:
        return _product(hidden, _layer(words, bias), self._decision)


class _Words(nn.Embedding):
    """A word table that rounds, as the head that shares it does, or for itself."""

    def __init__(self, table: nn.Embedding, decision: LayerDecision) -> None:
        super().__init__(table.num_embeddings, table.embedding_dim, device="meta")
        self.weight, self._decision = table.weight, decision

    def forward(self, ids: Tensor) -> Tensor:
        rounded = twin_of(_layer(self.weight, None), self._decision).dequantize_weight()
        return F.embedding(ids, _straight(self.weight, rounded))


def _product(x: Tensor, layer: nn.Linear, decision: LayerDecision) -> Tensor:
    """(…, I) to (…, O), as the layer's twin computes it."""
    with torch.no_grad():
        twin = twin_of(layer, decision)
        weight, read = twin.dequantize_weight(), twin.read(x)
    x = _straight(x, read, decision.input_scale)
    return F.linear(x, _straight(layer.weight, weight), layer.bias)


def _layer(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A layer around weights that are another's."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight, layer.bias = cast(nn.Parameter, weight), cast(nn.Parameter, bias)
    return layer


def _straight(x: Tensor, rounded: Tensor, reach: float | None = None) -> Tensor:
    """`rounded`, with the gradient of `x` where that is less than `reach` away; None: all of it."""
    out: Tensor = _Straight.apply(x, rounded, reach)
    return out


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: Tensor, reach: float | None) -> Tensor:
        ctx.kept = None if reach is None else (x - rounded).abs() < reach
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0]
        return (gradient if ctx.kept is None else gradient * ctx.kept), None, None
