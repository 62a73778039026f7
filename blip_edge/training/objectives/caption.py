"""Captioning: the language model on what comes after the prompt."""

# B rows · T text tokens

import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Batch
from blip_edge.training.losses import IGNORED
from blip_edge.training.recipe import TrainRecipe

__all__ = ["CaptionObjective", "caption_labels"]


def caption_labels(batch: Batch, prompt_length: int) -> Tensor:
    """(B, T) labels: padding and the first `prompt_length` tokens are not learned."""
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, IGNORED)
    labels[:, :prompt_length] = IGNORED
    return labels


class CaptionObjective(nn.Module):
    """The language-model loss on captions, the prompt not counted.

    A mean over tokens: processes whose captions have more of them weigh no more than others.
    """

    def __init__(self, blip: Blip, tokenizer: Tokenizer, recipe: TrainRecipe) -> None:
        super().__init__()
        self.blip = blip
        self._first = tokenizer.dec
        self._prompt_length = len(tokenizer.prompt_ids(recipe.prompt))
        self._label_smoothing = recipe.label_smoothing

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        tokens = self.blip.vision_model(batch.pixel_values)
        words = caption_labels(batch, self._prompt_length)[:, 1:]
        counted = words != IGNORED
        # The head over all words is the widest layer: only where something is learned from it.
        logits = self.blip.lm_logits(batch.first(self._first), tokens, F.pad(counted, (0, 1)))
        loss = F.cross_entropy(logits, words[counted], label_smoothing=self._label_smoothing)
        return {"lm": loss}
