"""What is minimised for each task: a batch in, named losses out; their sum is trained on.

The one loop in `loop` calls an objective once a step and knows nothing else of the task.
"""

# B rows · M candidates · T text tokens

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.attention import Cross
from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Batch
from blip_edge.training.losses import (
    IGNORED,
    contrastive_loss,
    hard_negatives,
    lm_loss,
    soft_targets,
)
from blip_edge.training.momentum import FeatureQueue, MomentumEncoders
from blip_edge.training.recipe import TrainRecipe

__all__ = ["CaptionObjective", "Objective", "PretrainObjective", "caption_labels"]

# The temperature is learned, and kept where the paper's code keeps it.
_TEMPERATURES = (0.001, 0.5)


class Objective(Protocol):
    """A task's losses."""

    def __call__(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The losses of one batch, each a scalar, at step `step` counted from 0."""
        ...


def caption_labels(batch: Batch, prompt_length: int) -> Tensor:
    """(B, T) labels: padding and the first `prompt_length` tokens are not learned."""
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, IGNORED)
    labels[:, :prompt_length] = IGNORED
    return labels


class CaptionObjective(nn.Module):
    """The language-model loss on captions, the prompt not counted."""

    def __init__(self, blip: Blip, tokenizer: Tokenizer, recipe: TrainRecipe) -> None:
        super().__init__()
        self.blip = blip
        self._first = tokenizer.dec
        self._prompt_length = len(tokenizer.prompt_ids(recipe.prompt))
        self._label_smoothing = recipe.label_smoothing

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        tokens = self.blip.vision_model(batch.pixel_values)
        logits = self.blip.lm_logits(batch.first(self._first), tokens)
        labels = caption_labels(batch, self._prompt_length)
        return {"lm": lm_loss(logits, labels, label_smoothing=self._label_smoothing)}


class PretrainObjective(nn.Module):
    """ITC, ITM and LM together, 1 : 1 : 1 (paper section 3.2)."""

    def __init__(self, blip: Blip, tokenizer: Tokenizer, recipe: TrainRecipe) -> None:
        super().__init__()
        self.blip = blip
        self._tokenizer, self._recipe = tokenizer, recipe
        self.slow = MomentumEncoders(blip, recipe.momentum)
        width = blip.config.image_text_hidden_size
        self.images = FeatureQueue(recipe.queue_size, width)
        self.texts = FeatureQueue(recipe.queue_size, width)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        with torch.no_grad():
            self.blip.temp.clamp_(*_TEMPERATURES)
        self.slow.follow(self.blip)
        tokens = self.blip.vision_model(batch.pixel_values)
        alpha = self._recipe.alpha * min(1.0, step / max(1, self._recipe.alpha_warmup))
        itc, by_image, by_text = self._contrast(batch, tokens, alpha)
        # Encoder and decoder share their cross-attention: one projection serves both.
        cross = self.blip.encoder.cross(tokens)
        logits, _ = self.blip.decoder(batch.first(self._tokenizer.dec), cross)
        smoothing = self._recipe.label_smoothing
        return {
            "itc": itc,
            "itm": self._match(batch, cross, by_image, by_text),
            "lm": lm_loss(logits, caption_labels(batch, 1), label_smoothing=smoothing),
        }

    def _contrast(
        self, batch: Batch, tokens: Tensor, alpha: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, and the batch's own similarities (B, B) by image and by text."""
        image = self.blip.embed_image(tokens)
        text = self.blip.embed_text(batch.input_ids, batch.attention_mask)
        slow_image, slow_text = self.slow.features(
            batch.pixel_values, batch.input_ids, batch.attention_mask
        )
        all_images = torch.cat([slow_image, self.images.items])  # (M, E)
        all_texts = torch.cat([slow_text, self.texts.items])
        temp = self.blip.temp
        with torch.no_grad():
            image_targets = soft_targets(slow_image @ all_texts.T / temp, alpha)
            text_targets = soft_targets(slow_text @ all_images.T / temp, alpha)
        by_image = image @ all_texts.T / temp
        by_text = text @ all_images.T / temp
        loss = contrastive_loss(by_image, image_targets) + contrastive_loss(by_text, text_targets)
        self.images.push(slow_image)
        self.texts.push(slow_text)
        rows = len(image)
        return loss / 2, by_image[:, :rows].detach(), by_text[:, :rows].detach()

    def _match(self, batch: Batch, cross: list[Cross], by_image: Tensor, by_text: Tensor) -> Tensor:
        """ITM on B matching pairs, and for each picture and each text one hard negative."""
        same = batch.picture[:, None] == batch.picture[None, :]
        # Two pictures may have one caption: neither is a wrong partner of it.
        equal = (batch.input_ids[:, None] == batch.input_ids[None, :]).all(-1)
        wrong_text, has_text = hard_negatives(by_image, same | equal)
        wrong_image, has_image = hard_negatives(by_text, same | equal)
        ids, mask = batch.first(self._tokenizer.enc), batch.attention_mask
        rows = torch.arange(len(ids), device=ids.device)
        texts = torch.cat([rows, wrong_text[has_text], rows[has_image]])
        images = torch.cat([rows, rows[has_text], wrong_image[has_image]])
        pairs = [layer.rows(images) for layer in cross]
        logits = self.blip.itm_logits(ids[texts], mask[texts], pairs)
        labels = torch.zeros(len(texts), dtype=torch.long, device=ids.device)
        labels[: len(rows)] = 1
        return F.cross_entropy(logits, labels)
