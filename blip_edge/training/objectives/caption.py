"""Captioning: the language model on what comes after the prompt."""

# B rows · T text tokens

import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Batch
from blip_edge.training.losses import IGNORED
from blip_edge.training.objectives.matching import Pairs
from blip_edge.training.objectives.objective import Said
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
        return self.learn(batch, step)[0]

    def learn(
        self, batch: Batch, step: int, pairs: Pairs | None = None
    ) -> tuple[dict[str, Tensor], Said]:
        """The loss, and logits of the words that count."""
        words = self._words(batch)
        said = self._say(self.blip, batch, words)
        wanted = words[words != IGNORED]
        loss = F.cross_entropy(said.logits["lm"], wanted, label_smoothing=self._label_smoothing)
        return {"lm": loss}, said

    def ask(self, blip: Blip, batch: Batch, said: Said | None) -> Said:
        """Another model's logits of the same words."""
        return self._say(blip, batch, self._words(batch))

    def _words(self, batch: Batch) -> Tensor:
        """(B, T - 1): the label of what comes next."""
        return caption_labels(batch, self._prompt_length)[:, 1:]

    def _say(self, blip: Blip, batch: Batch, words: Tensor) -> Said:
        tokens = blip.vision_model(batch.pixel_values)
        # The head over all words is the widest layer: only where something is learned from it.
        counted = F.pad(words != IGNORED, (0, 1))
        return Said({"lm": blip.lm_logits(batch.first(self._first), tokens, counted)})
