"""BLIP's three objectives as pure functions of tensors (paper section 3.2, after ALBEF).

They know no model, no queue and no step; the tasks in `objectives` bring those.
"""

# B images and their texts · M candidates · E width of the shared space · T text tokens · V words

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["IGNORED", "contrastive_loss", "hard_negatives", "lm_loss", "soft_targets"]

IGNORED = -100
"""The label of a position that the language-model loss skips."""


def soft_targets(similarity: Tensor, alpha: float) -> Tensor:
    """alpha · softmax(similarity) + (1 - alpha) · onehot(i): what row i should be similar to.

    `similarity` (B, M) comes from the momentum encoders, already divided by the temperature; the
    true partner of row i is column i.
    """
    hard = torch.zeros_like(similarity)
    hard.fill_diagonal_(1.0)
    return alpha * similarity.softmax(-1) + (1.0 - alpha) * hard


def contrastive_loss(similarity: Tensor, targets: Tensor) -> Tensor:
    """ITC in one direction: -mean_i sum_j targets_ij · log softmax(similarity)_ij, both (B, M)."""
    return -(targets * similarity.log_softmax(-1)).sum(-1).mean()


def lm_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of predicting token t + 1 at position t, mean over tokens.

    `logits` (B, T, V) and `labels` (B, T); positions whose label is `IGNORED` do not count.
    """
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1),
        labels[:, 1:].flatten().long(),
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
    )


def hard_negatives(similarity: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """For each row one column that looks right and is wrong, drawn by similarity.

    Column j is drawn with weight softmax(similarity)_ij + 1e-4, and never where `same` (B, B) says
    that i and j belong together. Returns (B,) columns and a (B,) mask of the rows that have any
    negative at all: none exists in a batch of one, or of equal pictures.
    """
    weights = (similarity.softmax(-1) + 1e-4).masked_fill(same, 0.0)
    found = weights.sum(-1) > 0
    weights = torch.where(found[:, None], weights, torch.ones_like(weights))
    return torch.multinomial(weights, 1).squeeze(1), found
