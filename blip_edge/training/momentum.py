"""What the contrastive objective remembers: slow copies of the encoders, and a queue of features.

Source: MoCo (arXiv 1911.05722) as ALBEF and BLIP use it (arXiv 2201.12086, section 3.2).
"""

from copy import deepcopy
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.attention import padding_mask
from blip_edge.models.blip import Blip

__all__ = ["NO_PICTURE", "FeatureQueue", "MomentumEncoders", "PictureQueue"]

NO_PICTURE = -100
"""The picture of a queue's random first items, which is nobody's."""


class MomentumEncoders(nn.Module):
    """Copies of the encoders that follow the originals: p_m = m · p_m + (1 - m) · p."""

    def __init__(self, blip: Blip, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.parts = nn.ModuleList(deepcopy(part) for part in _encoders(blip))
        self.requires_grad_(False)

    @torch.no_grad()
    def follow(self, blip: Blip) -> None:
        """Move a step towards `blip`; called before each forward pass."""
        mine: list[Tensor] = list(chain.from_iterable(part.parameters() for part in self.parts))
        theirs = list(chain.from_iterable(part.parameters() for part in _encoders(blip)))
        torch._foreach_lerp_(mine, [p.detach() for p in theirs], 1.0 - self.momentum)

    @torch.no_grad()
    def features(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors (B, E) of (B, 3, S, S) pixels and of (B, T) ids."""
        self.eval()  # a slow copy is a target: no dropout
        vision, text, vision_proj, text_proj = self.parts
        image = F.normalize(vision_proj(vision(pixels)[:, 0]), dim=-1)
        hidden, _ = text(ids, padding_mask(mask))
        return image, F.normalize(text_proj(hidden[:, 0]), dim=-1)


def _encoders(blip: Blip) -> list[nn.Module]:
    return [blip.vision_model, blip.encoder, blip.vision_proj, blip.text_proj]


class _Queue(nn.Module):
    """The last Q of what was pushed, oldest overwritten first, for batches of any size.

    Items and place are buffers, so that they are saved and moved with what remembers them. On
    several processes a queue stays the same on each, as long as each is given what all gathered.
    """

    items: Tensor
    next: Tensor

    def __init__(self, items: Tensor) -> None:
        super().__init__()
        self.register_buffer("items", items)
        self.register_buffer("next", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, features: Tensor) -> None:
        """Remember (B, …) items; of a batch larger than the queue only the last Q stay."""
        size = len(self.items)
        if size == 0:
            return
        features = features[-size:].to(self.items.dtype)
        places = (self.next + torch.arange(len(features), device=features.device)) % size
        self.items[places] = features
        self.next.add_(len(features)).remainder_(size)


class FeatureQueue(_Queue):
    """The last Q features of one kind; before there are as many, random ones, set by `seed`."""

    def __init__(self, size: int, width: int, *, seed: int = 0) -> None:
        # A generator of its own: every process must start from the same.
        generator = torch.Generator().manual_seed(seed)
        super().__init__(F.normalize(torch.randn(size, width, generator=generator), dim=-1))


class PictureQueue(_Queue):
    """The numbers of the pictures that a feature queue's items are of, at first those of none."""

    def __init__(self, size: int) -> None:
        super().__init__(torch.full((size,), NO_PICTURE))
