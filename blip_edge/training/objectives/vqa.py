"""Answering: a question that has seen the picture, and each of the answers people gave."""

# B questions · A answers, A >= B · T text tokens

from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import VqaBatch, started
from blip_edge.training.losses import IGNORED, answer_loss
from blip_edge.training.objectives.matching import Pairs
from blip_edge.training.objectives.objective import Said
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
        return self.learn(batch, step)[0]

    def learn(
        self, batch: VqaBatch, step: int, pairs: Pairs | None = None
    ) -> tuple[dict[str, Tensor], Said]:
        """The loss, and logits of every answer's words, which count as its answer does."""
        logits, labels = self._logits(self.blip, batch), _labels(batch)
        loss = answer_loss(
            logits,
            labels,
            batch.weights,
            len(batch.input_ids),
            label_smoothing=self._label_smoothing,
        )
        return {"lm": loss}, _said(logits, labels, batch.weights)

    def ask(self, blip: Blip, batch: VqaBatch, said: Said | None) -> Said:
        """Another model's logits of the same words."""
        return _said(self._logits(blip, batch), _labels(batch), batch.weights)

    def _logits(self, blip: Blip, batch: VqaBatch) -> Tensor:
        """(A, T, V) of the answers."""
        seen = blip.encoder.cross(blip.image_tokens(batch.pixel_values))
        questions = started(batch.input_ids, self._enc)
        states = blip.ground(questions, batch.attention_mask, seen)
        asked = blip.answer_cross(states, batch.attention_mask)
        logits: Tensor = blip.decoder(
            started(batch.answer_ids, self._dec), [layer.rows(batch.question) for layer in asked]
        )[0]
        return logits


def _labels(batch: VqaBatch) -> Tensor:
    return batch.answer_ids.masked_fill(batch.answer_mask == 0, IGNORED)


def _said(logits: Tensor, labels: Tensor, weights: Tensor) -> Said:
    counted = labels[:, 1:] != IGNORED  # (A, T - 1)
    each = weights[:, None].expand(counted.shape)[counted]
    return Said({"lm": logits[:, :-1][counted]}, {"lm": each})
