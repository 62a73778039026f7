"""Fine-tuning for retrieval: several captions a picture, and wrong partners from everywhere."""

# B rows · M rows to choose from: B, or those of all processes · T text tokens · N image tokens
# E width of the shared space

import torch
from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Batch, started
from blip_edge.training.gather import first_row, gather, gather_with_gradient
from blip_edge.training.losses import Draw, by_weight, similarities
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

__all__ = ["RetrievalObjective"]


class RetrievalObjective(nn.Module):
    """ITC over all that belongs to a picture, and ITM, 1 : 1 (paper section 5.1).

    With `negative_all_rank` wrong partners come from the batches of all processes, as BLIP trains
    on COCO, and gradients reach their pictures where they are: N processes with equal batches
    minimise what one with all of them does, but for pairs that lack a wrong partner. Without it
    they come from the own batch, as on Flickr30k. `draw` chooses them.
    """

    def __init__(
        self,
        blip: Blip,
        tokenizer: Tokenizer,
        recipe: TrainRecipe,
        *,
        negative_all_rank: bool = False,
        draw: Draw = by_weight,
    ) -> None:
        super().__init__()
        self.blip = blip
        self.contrast = Contrast(blip, recipe, by_picture=True)
        self._enc, self._draw, self._all_rank = tokenizer.enc, draw, negative_all_rank

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return self.learn(batch, step)[0]

    def learn(
        self, batch: Batch, step: int, pairs: Pairs | None = None
    ) -> tuple[dict[str, Tensor], Said]:
        """Both losses, and features and logits of pairs."""
        tokens = self.blip.vision_model(batch.pixel_values)
        image, text = features = features_of(self.blip, batch, tokens)
        compared = self.contrast(self.blip, batch, image, text, step)
        pairs = pairs or self._pairs(self.blip, batch, features)
        said = self._say(self.blip, batch, tokens, features, pairs)
        itm = match_loss(said.logits["itm"], len(batch.picture))
        return {"itc": compared.loss, "itm": itm}, said

    def ask(self, blip: Blip, batch: Batch, said: Said | None) -> Said:
        """Another model's features, and logits of the same pairs, or of its own."""
        tokens = blip.vision_model(batch.pixel_values)
        features = features_of(blip, batch, tokens)
        pairs = None if said is None else said.pairs
        if pairs is None:
            pairs = self._pairs(blip, batch, features)
        return self._say(blip, batch, tokens, features, pairs)

    def _say(
        self,
        blip: Blip,
        batch: Batch,
        tokens: Tensor,
        features: tuple[Tensor, Tensor],
        pairs: Pairs,
    ) -> Said:
        ids, mask = self._words(batch)
        if self._all_rank:
            tokens = gather_with_gradient(tokens)  # (M, N, D)
        # Of all processes' pictures only those that somebody here is paired with are projected.
        needed, images = pairs.images.unique(return_inverse=True)
        cross = blip.encoder.cross(tokens[needed])
        seen = Pairs(pairs.texts, images)
        logits = match_logits(blip, started(ids, self._enc), mask, cross, seen)
        return Said({"itm": logits}, features=features, pairs=pairs)

    def _words(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(M, T) ids and mask of the texts to choose from."""
        words = torch.stack([batch.input_ids, batch.attention_mask], dim=-1)  # (B, T, 2)
        ids, mask = (gather(words) if self._all_rank else words).unbind(-1)
        return ids, mask

    def _pairs(self, blip: Blip, batch: Batch, features: tuple[Tensor, Tensor]) -> Pairs:
        views, temperature = torch.stack(features, dim=1).detach(), blip.temp.detach()  # (B, 2, E)
        picture, candidates, first = batch.picture, views, 0
        if self._all_rank:
            first = first_row(picture)
            picture, candidates = gather(picture), gather(views)
        ids, mask = self._words(batch)
        own = torch.arange(first, first + len(views), device=views.device)
        return choose_pairs(
            own,
            similarities(views[:, 0], candidates[:, 1], temperature),
            similarities(views[:, 1], candidates[:, 0], temperature),
            belong_together(own, picture, ids, mask),
            floor=0.0,
            draw=self._draw,
        )
