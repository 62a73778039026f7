"""BLIP's objectives as pure functions of tensors (paper section 3.2, after ALBEF).

They know no model, no queue and no step; the tasks in `objectives` bring those.
"""

# B images and their texts · M candidates · E width of the shared space · T text tokens · V words
# A answers of B questions

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "IGNORED",
    "Draw",
    "answer_loss",
    "by_weight",
    "contrastive_loss",
    "hard_negatives",
    "lm_loss",
    "ramp",
    "similarities",
    "soft_targets",
]

IGNORED = -100
"""The label of a position that the language-model loss skips."""

Draw = Callable[[Tensor], Tensor]
"""How negatives are drawn: (B, M) weights to (B,) columns."""


def ramp(alpha: float, step: int, warmup: int) -> float:
    """`alpha` · min(1, step / warmup): the weight of soft targets at `step`, counted from 0."""
    return alpha * min(1.0, step / warmup) if warmup else alpha


def similarities(rows: Tensor, candidates: Tensor, temperature: Tensor) -> Tensor:
    """Cosines of unit vectors (B, E) and (M, E) over the temperature, (B, M).

    In the temperature's precision, also under autocast: of cosines divided by 0.07, eight bits
    would leave steps of a sixteenth.
    """
    with torch.autocast(rows.device.type, enabled=False):
        return rows.to(temperature.dtype) @ candidates.to(temperature.dtype).T / temperature


def soft_targets(similarity: Tensor, positives: Tensor, alpha: float) -> Tensor:
    """alpha · softmax(similarity)_i + (1 - alpha) · positives_i / sum_j positives_ij.

    What row i should be similar to: `similarity` (B, M) comes from the momentum encoders, already
    divided by the temperature; `positives` (B, M) says what is known to belong together, which is
    something in every row. Several of them share (BLIP's fine-tuning for retrieval, where a
    picture has several captions).
    """
    hard = positives.to(similarity.dtype)
    hard = hard / hard.sum(-1, keepdim=True)
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


def answer_loss(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    questions: int,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """sum_a weights_a · sum_t CE_at / questions: each answer whole, then by how many gave it.

    `logits` (A, T, V), `labels` (A, T) as in `lm_loss`, `weights` (A,): the share of people who
    answered so. Source: paper section 5.3, with the weights of ALBEF (arXiv 2107.07651).
    """
    tokens = F.cross_entropy(
        logits[:, :-1].flatten(0, 1),
        labels[:, 1:].flatten().long(),
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    return (weights * tokens.view(len(labels), -1).sum(-1)).sum() / questions


def by_weight(weights: Tensor) -> Tensor:
    """One column (B,) of each row, with the probabilities that (B, M) `weights` are shares of."""
    return torch.multinomial(weights, 1).squeeze(1)


def hard_negatives(
    similarity: Tensor, same: Tensor, *, floor: float = 1e-4, draw: Draw = by_weight
) -> tuple[Tensor, Tensor]:
    """For each row one column that looks right and is wrong, drawn by similarity.

    Column j is drawn with weight softmax(similarity)_ij + floor, and never where `same` (B, M) says
    that i and j belong together. Returns (B,) columns and a (B,) mask of the rows that have any
    negative at all: none exists in a batch of one, or of equal pictures.
    """
    # As logarithms, or else partners that are alike enough leave nothing of the others' weights.
    scores = similarity.log_softmax(-1)
    if floor:
        scores = torch.logaddexp(scores, torch.full_like(scores, floor).log())
    weights = scores.masked_fill(same, -torch.inf).softmax(-1)
    # Rows without a negative are NaN here. So are those of a model that has run away, of which the
    # loop tells at which step it did; the sampler would only fail.
    return draw(weights.nan_to_num(1.0)), ~same.all(-1)
