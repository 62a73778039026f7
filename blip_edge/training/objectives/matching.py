"""ITM: pairs that match, and for each picture and each text a partner that only looks right."""

# B rows · M rows to choose from · R pairs, B to 3 · B · T text tokens

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from blip_edge.models.attention import Cross
from blip_edge.models.blip import Blip
from blip_edge.training.losses import Draw, hard_negatives

__all__ = ["Pairs", "belong_together", "choose_pairs", "match_logits", "match_loss"]


class Pairs(NamedTuple):
    """Texts and pictures (R,), as places among M; the B that match come first."""

    texts: Tensor
    images: Tensor


def belong_together(own: Tensor, picture: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """(B, M) whether the rows `own` (B,) must not be told apart from each of the M rows.

    So it is for rows of one picture (M,), and for equal texts (M, T): two pictures may have one
    caption, and neither is a wrong partner of it.
    """
    words = ids.masked_fill(mask == 0, 0)
    equal = (words[own][:, None] == words[None, :]).all(-1)
    return equal | (picture[own][:, None] == picture[None, :])


def choose_pairs(
    own: Tensor, by_image: Tensor, by_text: Tensor, same: Tensor, *, floor: float, draw: Draw
) -> Pairs:
    """The B pairs of rows `own`, each picture with a wrong text, each text with a wrong picture.

    Similarities and `same` are (B, M); see `hard_negatives`. Who has no wrong partner goes without.
    """
    text, has_text = hard_negatives(by_image, same, floor=floor, draw=draw)
    image, has_image = hard_negatives(by_text, same, floor=floor, draw=draw)
    return Pairs(
        texts=torch.cat([own, text[has_text], own[has_image]]),
        images=torch.cat([own, own[has_text], image[has_image]]),
    )


def match_logits(
    blip: Blip, ids: Tensor, mask: Tensor, cross: Sequence[Cross], pairs: Pairs
) -> Tensor:
    """(R, 2) logits of pairs.

    `ids` (M, T) start with [ENC]; `cross` is what the encoder sees of the pictures that `pairs`
    names.
    """
    seen = [layer.rows(pairs.images) for layer in cross]
    return blip.itm_logits(ids[pairs.texts], mask[pairs.texts], seen)


def match_loss(logits: Tensor, matching: int) -> Tensor:
    """Cross-entropy, mean over (R, 2) logits of pairs, of which the first `matching` are right."""
    labels = torch.arange(len(logits), device=logits.device) < matching
    return F.cross_entropy(logits, labels.long())
