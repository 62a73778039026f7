"""Dialogs about a picture (VisDial): which answer is the true one."""

# B pictures · R texts = B x candidates

import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import DialogBatch, started

__all__ = ["DialogObjective"]


class DialogObjective(nn.Module):
    """ITM's cross-entropy of true and sampled answers, each after its history and question.

    They are judged against the picture and its caption (paper section 5.5).
    """

    def __init__(self, blip: Blip, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.blip = blip
        self._enc = tokenizer.enc

    def forward(self, batch: DialogBatch, step: int) -> dict[str, Tensor]:
        tokens = self.blip.vision_model(batch.pixel_values)
        cross = self.blip.dialog_cross(tokens, batch.caption_ids, batch.caption_mask)
        ids = started(batch.input_ids, self._enc)
        logits = self.blip.itm_logits(ids, batch.attention_mask, cross)
        return {"itm": F.cross_entropy(logits, batch.labels)}
