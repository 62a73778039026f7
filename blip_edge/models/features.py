"""BLIP as a feature extractor: of pictures, of texts, and of texts that have seen a picture."""

# B pairs · N image tokens · T text tokens · D width · E width of the shared space

from typing import NamedTuple

import torch
from torch import Tensor

from blip_edge.models.attention import padding_mask
from blip_edge.models.blip import Blip

__all__ = ["Features", "extract_features"]


class Features(NamedTuple):
    """Hidden states whole, and the unit vectors that pictures and texts are compared by."""

    image_tokens: Tensor
    """(B, N, D); the first is the class token."""
    image_embeds: Tensor
    """(B, E) unit vectors."""
    text_tokens: Tensor
    """(B, T, D), of the text alone; what stands over padding means nothing."""
    text_embeds: Tensor
    """(B, E) unit vectors."""
    multimodal_tokens: Tensor
    """(B, T, D), of the text with the picture before it; the first sums the pair up."""


@torch.inference_mode()
def extract_features(
    blip: Blip, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor, *, enc: int
) -> Features:
    """Features of B pictures and their texts, one each, by a model that matches.

    Args:
        blip: a retrieval or a pre-training model.
        pixel_values: (B, 3, S, S), or clips (B, F, 3, S, S).
        input_ids: (B, T), starting with [CLS].
        attention_mask: (B, T).
        enc: the id of [ENC], which the grounded pass reads in place of [CLS].
    """
    image = blip.image_tokens(pixel_values)
    text, _ = blip.encoder(input_ids, padding_mask(attention_mask))
    grounded = input_ids.clone()
    grounded[:, 0] = enc
    return Features(
        image_tokens=image,
        image_embeds=blip.embed_image(image),
        text_tokens=text,
        text_embeds=blip.embed_text(input_ids, attention_mask),
        multimodal_tokens=blip.ground(grounded, attention_mask, blip.encoder.cross(image)),
    )
