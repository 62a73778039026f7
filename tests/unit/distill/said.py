"""All that a network of any architecture computes for the same two pictures and texts."""

import torch
from torch import Tensor

from blip_edge.models import Blip

__all__ = ["outputs"]


@torch.no_grad()
def outputs(blip: Blip) -> list[Tensor]:
    """Image tokens first, in double precision."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 3, 24, 24, generator=generator).double()
    ids = torch.randint(5, 60, (2, 6), generator=generator)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    tokens = blip.vision_model(pixels)
    found = [tokens]
    parts = blip.config.parts
    if blip.config.captions:
        found.append(blip.lm_logits(ids, tokens))
    if parts.compares:
        cross = blip.encoder.cross(tokens)
        found += [blip.embed_image(tokens), blip.embed_text(ids, mask)]
        found.append(blip.itm_logits(ids, mask, cross))
    if parts.twin:
        found.append(blip.reason_logits(ids, mask, tokens, tokens.flip(0)))
    if parts.decoder and not blip.config.captions:
        states = blip.ground(ids, mask, blip.encoder.cross(tokens))
        found.append(blip.decoder(ids.flip(1), blip.answer_cross(states, mask))[0])
    return found
