"""Pre-training: one picture, three objectives."""

# B rows

import torch
from torch import Tensor, nn

from blip_edge.models.attention import Cross
from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Batch
from blip_edge.training.losses import Draw, by_weight, lm_loss
from blip_edge.training.objectives.caption import caption_labels
from blip_edge.training.objectives.contrast import Compared, Contrast
from blip_edge.training.objectives.matching import belong_together, choose_pairs, match_loss
from blip_edge.training.recipe import TrainRecipe

__all__ = ["PretrainObjective"]

# What every wrong partner's weight is raised by, in the paper's code.
_FLOOR = 1e-4


class PretrainObjective(nn.Module):
    """ITC, ITM and LM together, 1 : 1 : 1 (paper section 3.2).

    On several processes with equal batches ITC is that of one process with all of them. ITM and LM
    are not quite: wrong partners are drawn from a process's own batch, and LM is a mean over its
    own tokens, however many others have. `draw` chooses the wrong partners.
    """

    def __init__(
        self, blip: Blip, tokenizer: Tokenizer, recipe: TrainRecipe, *, draw: Draw = by_weight
    ) -> None:
        super().__init__()
        self.blip = blip
        self.contrast = Contrast(blip, recipe)
        self._tokenizer, self._draw = tokenizer, draw
        self._label_smoothing = recipe.label_smoothing

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        tokens = self.blip.vision_model(batch.pixel_values)
        image = self.blip.embed_image(tokens)
        text = self.blip.embed_text(batch.input_ids, batch.attention_mask)
        compared = self.contrast(self.blip, batch, image, text, step)
        # Encoder and decoder share their cross-attention: one projection serves both.
        cross = self.blip.encoder.cross(tokens)
        logits, _ = self.blip.decoder(batch.first(self._tokenizer.dec), cross)
        labels = caption_labels(batch, 1)
        return {
            "itc": compared.loss,
            "itm": self._match(batch, cross, compared),
            "lm": lm_loss(logits, labels, label_smoothing=self._label_smoothing),
        }

    def _match(self, batch: Batch, cross: list[Cross], compared: Compared) -> Tensor:
        own = torch.arange(len(batch.picture), device=batch.picture.device)
        same = belong_together(own, batch.picture, batch.input_ids, batch.attention_mask)
        pairs = choose_pairs(
            own, compared.by_image, compared.by_text, same, floor=_FLOOR, draw=self._draw
        )
        ids = batch.first(self._tokenizer.enc)
        return match_loss(self.blip, ids, batch.attention_mask, cross, pairs, len(own))
