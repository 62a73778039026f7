"""Captioning: the language model on what comes after the prompt."""

# B rows · T text tokens

from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Batch
from blip_edge.training.losses import IGNORED, lm_loss
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
        logits = self.blip.lm_logits(batch.first(self._first), tokens)
        labels = caption_labels(batch, self._prompt_length)
        return {"lm": lm_loss(logits, labels, label_smoothing=self._label_smoothing)}
