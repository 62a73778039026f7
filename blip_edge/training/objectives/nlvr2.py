"""Judging a sentence about two pictures."""

# B sentences · N image tokens · D width

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Nlvr2Batch, started
from blip_edge.training.objectives.matching import Pairs
from blip_edge.training.objectives.objective import Said

__all__ = ["Nlvr2Objective"]


class Nlvr2Objective(nn.Module):
    """Cross-entropy of true and false (paper section 5.4)."""

    def __init__(self, blip: Blip, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.blip = blip
        self._enc = tokenizer.enc

    def forward(self, batch: Nlvr2Batch, step: int) -> dict[str, Tensor]:
        return self.learn(batch, step)[0]

    def learn(
        self, batch: Nlvr2Batch, step: int, pairs: Pairs | None = None
    ) -> tuple[dict[str, Tensor], Said]:
        """The loss, and logits of false and true."""
        said = self._say(self.blip, batch)
        return {"cls": F.cross_entropy(said.logits["cls"], batch.labels)}, said

    def ask(self, blip: Blip, batch: Nlvr2Batch, said: Said | None) -> Said:
        """Another model's logits of the same sentences."""
        return self._say(blip, batch)

    def _say(self, blip: Blip, batch: Nlvr2Batch) -> Said:
        both = blip.vision_model(torch.cat([batch.left, batch.right]))  # (2 · B, N, D)
        left, right = both.chunk(2)
        ids = started(batch.input_ids, self._enc)
        return Said({"cls": blip.reason_logits(ids, batch.attention_mask, left, right)})
