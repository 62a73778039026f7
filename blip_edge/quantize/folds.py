"""Where channels of a layer's input may be divided by numbers that its weights take up again.

What comes before must be able to hold the division: the gain and bias of a LayerNorm, or the rows
of a linear layer from which there is only a linear way to the reader, as from values through the
shares of attention to the output. And all that reads the tensor must take part. So BERT's
LayerNorms are none of these places, as the residual reads them too, and neither is GELU, before the
second layer of a feed-forward; such layers are kept by the fall-back to float.

The tokens that leave the image tower come in other units afterwards; all of BLIP that reads them
knows, but `features` shows them as they are.
"""

# C channels · O output channels of a reader

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blip_edge.models.attention import CrossAttention, SelfAttention, TwinCrossAttention
from blip_edge.models.bert import TextModel
from blip_edge.models.blip import Blip
from blip_edge.models.vit import VisionModel

__all__ = ["Fold", "folds_of"]

_ALL = slice(None)


@dataclass(frozen=True)
class _Source:
    """Something whose channels can be divided."""

    module: nn.LayerNorm | nn.Linear
    rows: slice | None = None
    """Of a linear layer's output."""
    part: slice | None = None
    """The channels of the reader's input that these are."""

    @torch.no_grad()
    def divide(self, by: Tensor) -> None:
        by = by[self.part or _ALL]
        for tensor in (self.module.weight, self.module.bias):
            if tensor is not None:
                rows = tensor[self.rows or _ALL]
                rows /= by.view(-1, *[1] * (rows.ndim - 1))


@dataclass(frozen=True)
class Fold:
    """One tensor of C channels, what makes it and all that reads it."""

    sources: tuple[_Source, ...]
    readers: tuple[nn.Linear, ...]

    @property
    def made_by(self) -> nn.Module:
        """The module that it is known by."""
        return self.sources[0].module

    @torch.no_grad()
    def apply(self, scales: Tensor) -> None:
        """Divide the tensor's channels by (C,) `scales`; what its readers give stays the same."""
        for source in self.sources:
            source.divide(scales)
        for reader in self.readers:
            reader.weight *= scales


def folds_of(blip: Blip) -> list[Fold]:
    """All that there are, in the network's order, of shared layers once."""
    found = [*_in_the_image_tower(blip.vision_model), *_image_tokens(blip), *_question_states(blip)]
    seen: set[nn.Module] = set()
    for tower in _text_towers(blip):
        for block in tower.blocks:
            for attention in (block.attention, block.crossattention):
                if attention not in seen:
                    found += _in_attention(attention)
                seen.add(attention)
    return [fold for fold in found if fold.readers and all(r.weight.numel() for r in fold.readers)]


def _in_the_image_tower(tower: VisionModel) -> Iterator[Fold]:
    for layer in tower.blocks:
        attention = layer.self_attn
        if attention.heads:  # without heads the norm's output tells which tokens are alike
            yield _fold([layer.layer_norm1], [attention.qkv])
            inner = attention.heads * attention.head_width
            values = _Source(attention.qkv, rows=slice(2 * inner, 3 * inner))
            yield Fold((values,), (attention.projection,))
        yield _fold([layer.layer_norm2], [layer.mlp.fc1])


def _image_tokens(blip: Blip) -> Iterator[Fold]:
    """The image tower's last norm, and in a matcher the text encoder's.

    A dialog's caption stands beside the picture's tokens, so that both are divided alike, and all
    that reads either takes part.
    """
    sources, readers = [blip.vision_model.post_layernorm], _looking_at_pictures(blip)
    config = blip.config
    if config.parts.compares:
        readers.append(blip.vision_proj)
        same = config.text_config.hidden_size == config.vision_config.hidden_size
        if same and blip.encoder.blocks:
            sources.append(blip.encoder.blocks[-1].output.LayerNorm)
            readers += [blip.text_proj, blip.itm_head]
            if config.parts.decoder:  # it shares the layer
                readers.append(blip.decoder.cls.predictions.transform.dense)
    yield _fold(sources, readers)


def _question_states(blip: Blip) -> Iterator[Fold]:
    if _answers(blip) and blip.encoder.blocks:
        last = blip.encoder.blocks[-1].output.LayerNorm
        readers = _keys_and_values(blip.decoder.bert)
        if blip.config.tie_encoder_decoder:  # then it is the decoder's last norm too
            readers.append(blip.decoder.cls.predictions.transform.dense)
        yield _fold([last], readers)


def _in_attention(attention: SelfAttention | CrossAttention | TwinCrossAttention) -> list[Fold]:
    if not isinstance(attention, TwinCrossAttention):
        return [_fold([attention.self.value], [attention.output.dense])]
    output = attention.output
    both = [output.dense0, output.dense1]
    values = [attention.self0.value, attention.self1.value]
    found = [_fold([value], [dense]) for value, dense in zip(values, both, strict=True)]
    if output.merge_layer is not None:
        width = output.dense0.out_features
        halves = (slice(0, width), slice(width, 2 * width))
        sources = [_Source(dense, part=half) for dense, half in zip(both, halves, strict=True)]
        found.append(Fold(tuple(sources), (output.merge_layer,)))
    return found


def _looking_at_pictures(blip: Blip) -> list[nn.Linear]:
    towers = _text_towers(blip)
    if _answers(blip):
        towers = [blip.encoder]  # the decoder reads questions
    return list(dict.fromkeys(one for tower in towers for one in _keys_and_values(tower)))


def _keys_and_values(tower: TextModel) -> list[nn.Linear]:
    found: list[nn.Linear] = []
    for block in tower.blocks:
        attention = block.crossattention
        twin = isinstance(attention, TwinCrossAttention)
        for side in (attention.self0, attention.self1) if twin else (attention.self,):
            found += [side.key, side.value]
    return [each for each in found if each.weight.numel()]


def _text_towers(blip: Blip) -> list[TextModel]:
    decoder = None if blip.text_decoder is None else blip.text_decoder.bert
    return [tower for tower in (decoder, blip.text_encoder) if tower is not None]


def _answers(blip: Blip) -> bool:
    parts = blip.config.parts
    return parts.decoder and parts.encoder and not parts.compares


def _fold(sources: Sequence[nn.LayerNorm | nn.Linear], readers: Sequence[nn.Linear]) -> Fold:
    return Fold(tuple(_Source(module) for module in sources), tuple(readers))
