"""What is seen inside of a model is what it computes."""

from typing import Any

import torch
from torch import Tensor

from blip_edge.distill.watch import watching
from blip_edge.models import Model
from blip_edge.models.attention import causal_mask
from tests import tiny
from tests.unit.distill import sizes


def test_scores_are_those_that_attention_softens() -> None:
    """What is watched in cross-attention, against the maps that the model itself can give."""
    for architecture in sizes.ARCHITECTURE:
        if architecture == "BlipForConditionalGeneration":
            continue
        blip = tiny.lively(sizes.config(architecture))
        ids = torch.randint(5, 60, (2, 6))
        tokens = blip.image_tokens(torch.randn(2, 3, 24, 24))
        cross: Any = (
            blip.encoder.twin_cross(tokens, tokens.flip(0))
            if blip.config.parts.twin
            else blip.encoder.cross(tokens)
        )
        maps: list[Tensor] = []
        with watching(blip, pad=0, attention=True) as seen:
            blip.encoder(ids, None, cross, maps=maps)
        (reading,) = seen.text
        sides = [scores for layer in reading.cross for scores in layer]
        assert len(sides) == len(maps) == (6 if blip.config.parts.twin else 3)
        for scores, shares in zip(sides, maps, strict=True):
            torch.testing.assert_close(scores.softmax(-1), shares)
        assert len(reading.hidden) == len(reading.attention) == 3
        assert torch.equal(reading.mask, (ids != 0).float())  # type: ignore[arg-type]
        assert not any(module._forward_hooks for module in blip.modules()), "hooks are taken off"


def test_what_a_layer_says_follows_from_the_scores_that_were_seen(captioner: Model) -> None:
    """Self-attention of both towers, computed again from the scores."""
    blip = captioner.blip
    ids, pixels = torch.randint(5, 20, (2, 6)), torch.randn(2, 3, 24, 24)
    inputs: list[Tensor] = []
    layer, block = blip.vision_model.blocks[1], blip.decoder.bert.blocks[1].attention
    layer.self_attn.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    block.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.no_grad(), watching(blip, pad=0, attention=True) as seen:
        blip.lm_logits(ids, blip.vision_model(pixels))
        x, text = inputs
        value = layer.self_attn.qkv(x).chunk(3, dim=-1)[2].unflatten(-1, (4, 8)).transpose(1, 2)
        mixed = seen.vision[0].attention[1].softmax(-1) @ value
        y = layer.self_attn.projection(mixed.transpose(1, 2).flatten(2))
        torch.testing.assert_close(y, layer.self_attn(x, None)[0], rtol=1e-4, atol=1e-4)
        mask = causal_mask(6, 0, text.device)
        shares = (seen.text[0].attention[1] + mask).softmax(-1)
        value = block.self.value(text).unflatten(-1, (4, 4)).transpose(1, 2)
        y = block.output((shares @ value).transpose(1, 2).flatten(2), text)
        torch.testing.assert_close(y, block(text, mask, None)[0], rtol=1e-4, atol=1e-4)
