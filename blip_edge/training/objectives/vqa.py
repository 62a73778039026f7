"""Answering: a question that has seen the picture, and each of the answers people gave."""

# B questions · A answers, A >= B · T text tokens

from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import VqaBatch, started
from blip_edge.training.losses import IGNORED, answer_loss
from blip_edge.training.recipe import TrainRecipe

__all__ = ["VqaObjective"]


class VqaObjective(nn.Module):
    """The language-model loss of answers, decoded from the question's states (paper, figure 5).

    Each answer counts with its weight, whole, and the sum is divided by the number of questions: on
    several processes with equally many the mean of losses is that of one process with all.
    """

    def __init__(self, blip: Blip, tokenizer: Tokenizer, recipe: TrainRecipe) -> None:
        super().__init__()
        self.blip = blip
        self._enc, self._dec = tokenizer.enc, tokenizer.dec
        self._label_smoothing = recipe.label_smoothing

    def forward(self, batch: VqaBatch, step: int) -> dict[str, Tensor]:
        seen = self.blip.encoder.cross(self.blip.image_tokens(batch.pixel_values))
        questions = started(batch.input_ids, self._enc)
        states = self.blip.ground(questions, batch.attention_mask, seen)
        asked = self.blip.answer_cross(states, batch.attention_mask)
        logits, _ = self.blip.decoder(
            started(batch.answer_ids, self._dec), [layer.rows(batch.question) for layer in asked]
        )
        loss = answer_loss(
            logits,
            batch.answer_ids.masked_fill(batch.answer_mask == 0, IGNORED),
            batch.weights,
            len(questions),
            label_smoothing=self._label_smoothing,
        )
        return {"lm": loss}
