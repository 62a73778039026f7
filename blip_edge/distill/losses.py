"""What a student is told by its teacher, as pure functions of tensors.

The teacher's tensors carry no gradient; every loss is 0, or at its floor, when the student equals
its teacher.
"""

# B rows · T text tokens · V words · N tokens of any kind · D width

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["contrastive_loss", "hidden_loss", "logit_loss"]


def logit_loss(student: Tensor, teacher: Tensor, mask: Tensor, *, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher / T) || softmax(student / T)), mean over the tokens of `mask`.

    Logits (B, T, V), mask (B, T). Source: Hinton et al., arXiv 1503.02531.
    """
    p = (teacher / temperature).log_softmax(-1)
    q = (student / temperature).log_softmax(-1)
    divergence = (p.exp() * (p - q)).sum(-1)  # (B, T)
    return (divergence * mask).sum() / mask.sum().clamp(min=1) * temperature**2


def hidden_loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared distance of layer-normalised hidden states (B, N, D), over tokens of `mask`.

    Normalising makes the loss blind to a scale that the next LayerNorm removes anyway.
    """
    width = student.shape[-1:]
    gap = F.layer_norm(student, width) - F.layer_norm(teacher, width)
    squared = gap.square().mean(-1)  # (B, N)
    if mask is None:
        return squared.mean()
    return (squared * mask).sum() / mask.sum().clamp(min=1)


def contrastive_loss(
    student: Tensor, teacher: Tensor, same: Tensor, *, temperature: float
) -> Tensor:
    """-mean_i log softmax_j(cos(s_i, t_j) / T)_i: the teacher's view of the same picture wins.

    Views (B, D); where `same` (B, B) says that i and j are one picture, j is no rival of i.
    Source: the noise-contrastive form of DistillVLM, arXiv 2104.02096, with in-batch negatives.
    """
    cosine = F.normalize(student, dim=-1) @ F.normalize(teacher, dim=-1).T
    itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
    scores = (cosine / temperature).masked_fill(same & ~itself, -torch.inf)
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
