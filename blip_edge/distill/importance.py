"""How much each head and neuron matters, by first-order Taylor expansion of the loss.

Silencing a unit takes away its column of the matrix that reads it; to first order the loss then
changes by |sum(weight · gradient)| over that column (Molchanov et al., arXiv 1906.10771). One
backward pass per batch scores every unit of the model.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blip_edge.distill.surgery import Keep, LayerKeep
from blip_edge.models.blip import Blip
from blip_edge.training.batches import Batch

__all__ = ["Importance", "LayerImportance", "choose", "measure"]

# Kernels work on blocks of channels; an odd width costs as much as the next multiple.
_BLOCK = 8


@dataclass(frozen=True)
class LayerImportance:
    """Scores of one layer: (H,) heads, (H,) cross-attention heads, (F,) neurons."""

    heads: Tensor
    cross_heads: Tensor
    neurons: Tensor


@dataclass(frozen=True)
class Importance:
    """Scores of every layer of both towers."""

    vision: list[LayerImportance]
    text: list[LayerImportance]


def measure(blip: Blip, loss: Callable[[Batch], Tensor], batches: Iterable[Batch]) -> Importance:
    """Score the units of `blip` by what `loss` would lose on `batches`."""
    units = list(_units(blip))
    scores = {id(reader): torch.zeros(reader.in_features // width) for reader, width in units}
    for batch in batches:
        blip.zero_grad(set_to_none=True)
        loss(batch).backward()
        for reader, width in units:
            assert reader.weight.grad is not None
            product = (reader.weight * reader.weight.grad).sum(0).detach()
            scores[id(reader)] += product.unflatten(0, (-1, width)).sum(-1).abs()
    blip.zero_grad(set_to_none=True)
    return Importance(
        vision=[
            LayerImportance(
                scores[id(layer.self_attn.projection)], torch.zeros(0), scores[id(layer.mlp.fc2)]
            )
            for layer in blip.vision_model.blocks
        ],
        text=[
            LayerImportance(
                scores[id(layer.attention.output.dense)],
                scores[id(layer.crossattention.output.dense)],
                scores[id(layer.output.dense)],
            )
            for layer in blip.decoder.bert.blocks
        ],
    )


def choose(importance: Importance, *, heads: float, neurons: float, even: bool) -> Keep:
    """Keep these shares of heads and neurons: in every layer, or where they matter most.

    Every layer keeps at least one head of each attention and one block of neurons; numbers of
    neurons are multiples of 8 where there are as many.
    """
    towers = (importance.vision, importance.text)
    kept_heads = [_best([layer.heads for layer in tower], heads, even, 1) for tower in towers]
    kept_cross = _best([layer.cross_heads for layer in importance.text], heads, even, 1)
    kept = [_best([layer.neurons for layer in tower], neurons, even, _BLOCK) for tower in towers]
    return Keep(
        vision={
            i: LayerKeep(h, [], n)
            for i, (h, n) in enumerate(zip(kept_heads[0], kept[0], strict=True))
        },
        text={
            i: LayerKeep(h, c, n)
            for i, (h, c, n) in enumerate(zip(kept_heads[1], kept_cross, kept[1], strict=True))
        },
    )


def _units(blip: Blip) -> Iterator[tuple[nn.Linear, int]]:
    """The matrices that read the outputs of heads and of neurons, and how wide each output is."""
    width = blip.config.vision_config.head_width
    for layer in blip.vision_model.blocks:
        yield layer.self_attn.projection, width
        yield layer.mlp.fc2, 1
    width = blip.config.text_config.head_width
    for block in blip.decoder.bert.blocks:
        yield block.attention.output.dense, width
        yield block.crossattention.output.dense, width
        yield block.output.dense, 1


def _best(scores: list[Tensor], share: float, even: bool, block: int) -> list[list[int]]:
    """The units of each layer that stay, in their old order."""
    if even:
        numbers = [round(share * len(layer)) for layer in scores]
    else:
        everyone = torch.cat(scores)
        owner = torch.cat([torch.full((len(layer),), i) for i, layer in enumerate(scores)])
        # By number and not by a threshold: units may score alike, dead ones all score 0.
        best = everyone.topk(max(1, round(share * len(everyone)))).indices
        numbers = owner[best].bincount(minlength=len(scores)).tolist()
    kept = []
    for layer, number in zip(scores, numbers, strict=True):
        rounded = max(1, round(number / block)) * block
        if rounded > len(layer) or number == len(layer):
            rounded = len(layer)
        kept.append(sorted(layer.topk(rounded).indices.tolist()))
    return kept
