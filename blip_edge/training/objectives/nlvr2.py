"""Judging a sentence about two pictures."""

# B sentences · N image tokens · D width

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Nlvr2Batch, started

__all__ = ["Nlvr2Objective"]


class Nlvr2Objective(nn.Module):
    """Cross-entropy of true and false (paper section 5.4)."""

    def __init__(self, blip: Blip, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.blip = blip
        self._enc = tokenizer.enc

    def forward(self, batch: Nlvr2Batch, step: int) -> dict[str, Tensor]:
        both = self.blip.vision_model(torch.cat([batch.left, batch.right]))  # (2 · B, N, D)
        left, right = both.chunk(2)
        ids = started(batch.input_ids, self._enc)
        logits = self.blip.reason_logits(ids, batch.attention_mask, left, right)
        return {"cls": F.cross_entropy(logits, batch.labels)}
