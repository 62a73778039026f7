"""Where in a picture a text is: Grad-CAM of the matching model's cross-attention.

The shares that a text's tokens give to the image tokens in one layer, each weighted by how much it
raises the score of "they match": relu(∂ score / ∂ share) · share, mean over heads and over the
text's words. Source: Grad-CAM (arXiv 1610.02391), as ALBEF (arXiv 2107.07651) applies it to text
layers.
"""

# R texts · H heads · T text tokens · N image tokens · G side of the grid of patches

import torch
from torch import Tensor

from blip_edge.errors import ArtifactError
from blip_edge.models.blip import Blip

__all__ = ["heatmaps"]


def heatmaps(blip: Blip, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """(R, G, G) maps of R texts about one picture; the largest value of each is 1.

    Args:
        blip: a model that matches.
        pixel_values: (1, 3, S, S).
        input_ids: (R, T) texts that start with [ENC].
        attention_mask: (R, T).

    Raises:
        ArtifactError: the image tower merges tokens, which then stand for no patch.
    """
    vision = blip.config.vision_config
    if vision.num_output_tokens < vision.num_tokens:
        raise ArtifactError(
            f"the model merges its {vision.num_tokens - 1} patches to "
            f"{vision.num_output_tokens - 1}, so that a text has no place among them; draw the "
            "heatmap with the model that it was pruned from"
        )
    layer = _layer(len(blip.encoder.blocks))
    with torch.no_grad():
        cross = blip.encoder.cross(blip.image_tokens(pixel_values))
    cross[layer].key.requires_grad_()  # whether or not the weights are trained
    maps: list[Tensor] = []
    with torch.enable_grad():
        states = blip.ground(input_ids, attention_mask, cross, maps)
        score = blip.itm_head(states[:, 0])[:, 1].sum()  # a text's shares raise its own score only
        (gradient,) = torch.autograd.grad(score, maps[layer])  # (1, H, R · T, N)
    weighed = (gradient.clamp(min=0) * maps[layer].detach()).mean(1)
    weighed = weighed.unflatten(1, input_ids.shape)[0]  # (R, T, N)
    words = _words(attention_mask)
    patches: Tensor = (weighed * words[:, :, None]).sum(1)[:, 1:]  # (R, N - 1): no class token
    most = patches.amax(1, keepdim=True).clamp(min=torch.finfo(patches.dtype).tiny)
    side = vision.image_size // vision.patch_size
    grids: Tensor = (patches / most).unflatten(1, (side, side))
    return grids


def _layer(layers: int) -> int:
    """The seventh of twelve, as in the released programs; never the last.

    In the last layer only [ENC] has a say in the score.
    """
    return max(0, min(layers // 2, layers - 2))


def _words(attention_mask: Tensor) -> Tensor:
    """(R, T) weights that average over a text's tokens between [ENC] and [SEP]."""
    words = attention_mask.clone()
    words[:, 0] = 0
    words[torch.arange(len(words)), attention_mask.sum(1) - 1] = 0
    return words / words.sum(1, keepdim=True).clamp(min=1)
