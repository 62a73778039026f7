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
from blip_edge.training.objectives.contrast import Contrast
from blip_edge.training.objectives.matching import (
    Pairs,
    belong_together,
    choose_pairs,
    match_loss,
)
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
        tokens = self.blip.vision_model(batch.pixel_values)
        image = self.blip.embed_image(tokens)
        text = self.blip.embed_text(batch.input_ids, batch.attention_mask)
        compared = self.contrast(self.blip, batch, image, text, step)
        views = torch.stack([image, text], dim=1).detach()  # (B, 2, E)
        return {"itc": compared.loss, "itm": self._match(batch, tokens, views)}

    def _match(self, batch: Batch, tokens: Tensor, views: Tensor) -> Tensor:
        words = torch.stack([batch.input_ids, batch.attention_mask], dim=-1)  # (B, T, 2)
        picture, candidates, first = batch.picture, views, 0
        if self._all_rank:
            first = first_row(picture)
            picture, candidates, words = gather(picture), gather(views), gather(words)
            tokens = gather_with_gradient(tokens)  # (M, N, D)
        ids, mask = words.unbind(-1)
        own = torch.arange(first, first + len(views), device=views.device)
        pairs = choose_pairs(
            own,
            similarities(views[:, 0], candidates[:, 1], self.blip.temp.detach()),
            similarities(views[:, 1], candidates[:, 0], self.blip.temp.detach()),
            belong_together(own, picture, ids, mask),
            floor=0.0,
            draw=self._draw,
        )
        # Of all processes' pictures only those that somebody here is paired with are projected.
        needed, images = pairs.images.unique(return_inverse=True)
        cross = self.blip.encoder.cross(tokens[needed])
        pairs = Pairs(pairs.texts, images)
        return match_loss(self.blip, started(ids, self._enc), mask, cross, pairs, len(own))
