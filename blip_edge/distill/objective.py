"""A student's losses: the captions, and its teacher's words, hidden states and image view."""

# B rows · T text tokens · N image tokens · D width

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blip_edge.distill.losses import contrastive_loss, hidden_loss, logit_loss
from blip_edge.distill.recipe import Imitation
from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Batch
from blip_edge.training.losses import IGNORED, lm_loss
from blip_edge.training.objectives import caption_labels

__all__ = ["DistillObjective"]


class DistillObjective(nn.Module):
    """Weighted sum of the task's loss and of three distances from a frozen teacher.

    `vision_layers` and `text_layers` name, for each layer of the student, the layer of the teacher
    whose output it should have. The towers are of one width: no projection lies between them.
    """

    def __init__(
        self,
        student: Blip,
        teacher: Blip,
        tokenizer: Tokenizer,
        recipe: Imitation,
        *,
        vision_layers: Sequence[int],
        text_layers: Sequence[int],
        prompt: str,
    ) -> None:
        super().__init__()
        self.student = student
        # In a list, so that the teacher is no submodule: train() must not reach its dropout.
        self._teacher = [teacher.eval().requires_grad_(False)]
        self._recipe = recipe
        self._vision_layers, self._text_layers = vision_layers, text_layers
        self._first = tokenizer.dec
        self._prompt_length = len(tokenizer.prompt_ids(prompt))

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        recipe = self._recipe
        with torch.no_grad():
            teacher = self._teacher[0].to(batch.pixel_values.device)
            theirs = _look(teacher, batch, self._first)
        mine = _look(self.student, batch, self._first)
        labels = caption_labels(batch, self._prompt_length)
        predicts = labels.roll(-1, dims=1) != IGNORED  # position t predicts the label of t + 1
        predicts[:, -1] = False
        words = batch.attention_mask.to(mine.logits.dtype)
        same = batch.picture[:, None] == batch.picture[None, :]
        return {
            "lm": recipe.task_weight
            * lm_loss(mine.logits, labels, label_smoothing=recipe.label_smoothing),
            "logit": recipe.logit_weight
            * logit_loss(
                mine.logits,
                theirs.logits,
                predicts.to(mine.logits.dtype),
                temperature=recipe.temperature,
            ),
            "hidden": recipe.hidden_weight
            * (
                _layers(mine.vision, theirs.vision, self._vision_layers)
                + _layers(mine.text, theirs.text, self._text_layers, words)
            ),
            "contrastive": recipe.contrastive_weight
            * contrastive_loss(
                mine.view, theirs.view, same, temperature=recipe.contrastive_temperature
            ),
        }


class _Look:
    """One model's forward pass over a batch, with what is compared."""

    def __init__(
        self, view: Tensor, logits: Tensor, vision: list[Tensor], text: list[Tensor]
    ) -> None:
        self.view = view  # (B, D)
        self.logits = logits  # (B, T, V)
        self.vision = vision  # L x (B, N, D)
        self.text = text  # L x (B, T, D)


def _look(blip: Blip, batch: Batch, first: int) -> _Look:
    vision: list[Tensor] = []
    text: list[Tensor] = []
    tokens = blip.vision_model(batch.pixel_values, vision)
    cross = blip.decoder.bert.cross(tokens)
    logits, _ = blip.decoder(batch.first(first), cross, hidden_states=text)
    return _Look(tokens.mean(1), logits, vision, text)


def _layers(
    student: list[Tensor],
    teacher: list[Tensor],
    layers: Sequence[int],
    mask: Tensor | None = None,
) -> Tensor:
    gaps = [
        hidden_loss(mine, teacher[number], mask)
        for mine, number in zip(student, layers, strict=True)
    ]
    return torch.stack(gaps).mean()
