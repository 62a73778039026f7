"""ITC: pictures and texts against all that every process and the last batches hold."""

# B rows · R rows of all processes · M = R + Q candidates · E width of the shared space

from typing import NamedTuple

import torch
from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.training.batches import Batch
from blip_edge.training.gather import first_row, gather
from blip_edge.training.losses import (
    contrastive_loss,
    ramp,
    similarities,
    soft_targets,
)
from blip_edge.training.momentum import FeatureQueue, MomentumEncoders, PictureQueue
from blip_edge.training.recipe import TrainRecipe

__all__ = ["Compared", "Contrast", "features_of"]

# The temperature is learned, and kept where the paper's code keeps it.
_TEMPERATURES = (0.001, 0.5)


class Compared(NamedTuple):
    """A contrast's loss, and what this process's own pairs look like to each other."""

    loss: Tensor
    by_image: Tensor
    """(B, B) similarities of pictures and the slow encoder's texts, without gradient."""
    by_text: Tensor
    """(B, B) similarities of texts and the slow encoder's pictures, without gradient."""


def features_of(blip: Blip, batch: Batch, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (B, E) of the batch's pictures, given as image tokens, and of its texts."""
    text = blip.embed_text(batch.input_ids, batch.attention_mask)
    return blip.embed_image(tokens), text


class Contrast(nn.Module):
    """The contrastive loss with soft targets, and what it remembers (paper section 3.2).

    The candidates are the slow encoders' features of all processes' batches, and the queue. The
    released code compares with the batch of its own process only; with all of them N processes
    minimise what one with N times the batch does, and queues stay equal on every process.

    With `by_picture` every text of a picture is right for it, also those in the queue, as in
    fine-tuning for retrieval; without it only its own is.
    """

    def __init__(self, blip: Blip, recipe: TrainRecipe, *, by_picture: bool = False) -> None:
        super().__init__()
        self._alpha, self._alpha_warmup = recipe.alpha, recipe.alpha_warmup
        self.slow = MomentumEncoders(blip, recipe.momentum)
        size, width = recipe.queue_size, blip.config.image_text_hidden_size
        self.images = FeatureQueue(size, width, seed=0)
        self.texts = FeatureQueue(size, width, seed=1)
        self.pictures = PictureQueue(size) if by_picture else None

    def forward(self, blip: Blip, batch: Batch, image: Tensor, text: Tensor, step: int) -> Compared:
        """Compare `blip`'s features (B, E) of the batch, and remember the slow encoders'."""
        with torch.no_grad():
            blip.temp.clamp_(*_TEMPERATURES)
        self.slow.follow(blip)
        slow = self.slow.features(batch.pixel_values, batch.input_ids, batch.attention_mask)
        features = gather(torch.stack(slow, dim=1))  # (R, 2, E)
        pictures = gather(batch.picture)  # (R,)
        all_images = torch.cat([features[:, 0], self.images.items])  # (M, E)
        all_texts = torch.cat([features[:, 1], self.texts.items])
        first = first_row(image)
        own = torch.arange(first, first + len(image), device=image.device)
        alpha = ramp(self._alpha, step, self._alpha_warmup)
        with torch.no_grad():
            right = self._positives(own, pictures, len(all_texts))
            image_targets = soft_targets(similarities(slow[0], all_texts, blip.temp), right, alpha)
            text_targets = soft_targets(similarities(slow[1], all_images, blip.temp), right, alpha)
        by_image = similarities(image, all_texts, blip.temp)
        by_text = similarities(text, all_images, blip.temp)
        loss = contrastive_loss(by_image, image_targets) + contrastive_loss(by_text, text_targets)
        self._remember(features, pictures)
        return Compared(loss / 2, by_image[:, own].detach(), by_text[:, own].detach())

    def _positives(self, own: Tensor, pictures: Tensor, candidates: int) -> Tensor:
        """(B, M) which candidates are right, the same for pictures and for texts."""
        if self.pictures is None:
            return own[:, None] == torch.arange(candidates, device=own.device)[None, :]
        numbers = torch.cat([pictures, self.pictures.items])
        return pictures[own][:, None] == numbers[None, :]

    def _remember(self, features: Tensor, pictures: Tensor) -> None:
        self.images.push(features[:, 0])
        self.texts.push(features[:, 1])
        if self.pictures is not None:
            self.pictures.push(pictures)
