"""Pre-training: one picture, three objectives."""

# B rows

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Batch
from blip_edge.training.losses import IGNORED, Draw, by_weight, similarities
from blip_edge.training.objectives.caption import caption_labels
from blip_edge.training.objectives.contrast import Contrast, features_of
from blip_edge.training.objectives.matching import (
    Pairs,
    belong_together,
    choose_pairs,
    match_logits,
    match_loss,
)
from blip_edge.training.objectives.objective import Said
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
        return self.learn(batch, step)[0]

    def learn(
        self, batch: Batch, step: int, pairs: Pairs | None = None
    ) -> tuple[dict[str, Tensor], Said]:
        """The three losses, and features, logits of pairs and logits of words."""
        tokens = self.blip.vision_model(batch.pixel_values)
        image, text = features = features_of(self.blip, batch, tokens)
        compared = self.contrast(self.blip, batch, image, text, step)
        pairs = pairs or self._pairs(batch, compared.by_image, compared.by_text)
        said = self._say(self.blip, batch, tokens, features, pairs)
        words = caption_labels(batch, 1)[:, 1:]
        wanted = words[words != IGNORED]
        lm = F.cross_entropy(said.logits["lm"], wanted, label_smoothing=self._label_smoothing)
        itm = match_loss(said.logits["itm"], len(batch.picture))
        return {"itc": compared.loss, "itm": itm, "lm": lm}, said

    def ask(self, blip: Blip, batch: Batch, said: Said | None) -> Said:
        """Another model's features, and logits of words and the same pairs, or of its own."""
        tokens = blip.vision_model(batch.pixel_values)
        image, text = features = features_of(blip, batch, tokens)
        pairs = None if said is None else said.pairs
        if pairs is None:
            alike = similarities(image, text, blip.temp).detach()
            pairs = self._pairs(batch, alike, alike.T)
        return self._say(blip, batch, tokens, features, pairs)

    def _say(
        self,
        blip: Blip,
        batch: Batch,
        tokens: Tensor,
        features: tuple[Tensor, Tensor],
        pairs: Pairs,
    ) -> Said:
        # Encoder and decoder share their cross-attention: one projection serves both.
        cross = blip.encoder.cross(tokens)
        logits, _ = blip.decoder(batch.first(self._tokenizer.dec), cross)
        counted = caption_labels(batch, 1)[:, 1:] != IGNORED
        ids = batch.first(self._tokenizer.enc)
        matched = match_logits(blip, ids, batch.attention_mask, cross, pairs)
        return Said({"itm": matched, "lm": logits[:, :-1][counted]}, features=features, pairs=pairs)

    def _pairs(self, batch: Batch, by_image: Tensor, by_text: Tensor) -> Pairs:
        own = torch.arange(len(batch.picture), device=batch.picture.device)
        same = belong_together(own, batch.picture, batch.input_ids, batch.attention_mask)
        return choose_pairs(own, by_image, by_text, same, floor=_FLOOR, draw=self._draw)
