"""What a student is told by its teacher, as pure functions of tensors.

The teacher's tensors carry no gradient; every loss is 0, or at its floor, when the student equals
its teacher.
"""

# n predictions · C words or classes · B rows · M candidates · N tokens of any kind · D width
# H heads · Q rows remembered · k of the classes

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "affinity_loss",
    "attention_loss",
    "contrastive_loss",
    "hidden_loss",
    "logit_loss",
    "top_logit_loss",
]


def logit_loss(
    student: Tensor, teacher: Tensor, weights: Tensor | None = None, *, temperature: float
) -> Tensor:
    """T² · KL(softmax(teacher / T) || softmax(student / T)), mean over predictions by weight.

    Logits (n, C) of words, of match or no match, of false or true; weights (n,), None for alike.
    Source: Hinton et al., arXiv 1503.02531.
    """
    p = (teacher.float() / temperature).log_softmax(-1)
    q = (student.float() / temperature).log_softmax(-1)
    return _mean((p.exp() * (p - q)).sum(-1) * temperature**2, weights)


def top_logit_loss(
    student: Tensor,
    values: Tensor,
    ids: Tensor,
    rest: Tensor,
    weights: Tensor | None = None,
    *,
    temperature: float,
) -> Tensor:
    """T² · [sum_j p_j log(p_j / q_j) + p_r log(p_r / q_r)], mean over predictions by weight.

    The divergence of `logit_loss` when all classes but k of the teacher's are one, r. Of the
    teacher are known the logits `values` (n, k) of the classes `ids` (n, k), and `rest` (n,), the
    log of the sum of exp(z / T) over the others: p = softmax(values / T, rest). The student's q is
    made of logits (n, C) the same way, k < C. It is never more than the whole divergence, and the
    same where the student shares the rest out as its teacher does.
    """
    logits = student.float() / temperature
    others = logits.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    q = torch.cat([logits.gather(-1, ids), others], dim=-1).log_softmax(-1)
    p = torch.cat([values.float() / temperature, rest.float()[:, None]], dim=-1).log_softmax(-1)
    return _mean((p.exp() * (p - q)).sum(-1) * temperature**2, weights)


def _mean(divergence: Tensor, weights: Tensor | None) -> Tensor:
    """Of (n,), by weights if there are any."""
    if weights is None:
        return divergence.mean()
    return (divergence * weights).sum() / weights.sum().clamp(min=1e-6)


def affinity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """mean_i KL(softmax_j(teacher_ij) || softmax_j(student_ij)) of similarities (B, M).

    Rows are pictures or texts, columns all that they are compared with; similarities are already
    divided by each model's own temperature. Source: affinity mimicking of TinyCLIP (arXiv
    2309.12314, section 3.1), which adds both directions.
    """
    return logit_loss(student, teacher, temperature=1.0)


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


def attention_loss(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, keys: Tensor | None = None
) -> Tensor:
    """Mean squared distance of attention scores before softmax, (B, H, N, M), over rows of `mask`.

    A softmax does not see a constant: the mean of each row is taken away. Nor does it see what may
    not be looked at: both means are over the ones of `keys`, which broadcasts to (B, 1, N, M); None
    of pictures, where all may be. Towers with other numbers of heads are compared by the mean over
    theirs. `mask` (B, N) says which rows count. Source: TinyBERT (arXiv 1909.10351, section 3.1),
    of one head each.
    """
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    gap = student - teacher
    keys = torch.ones_like(gap[:1, :1, :1]) if keys is None else keys
    count = keys.sum(-1, keepdim=True).clamp(min=1)
    gap = gap - (gap * keys).sum(-1, keepdim=True) / count
    squared = ((gap.square() * keys).sum(-1, keepdim=True) / count).mean((1, 3))  # (B, N)
    if mask is None:
        return squared.mean()
    return (squared * mask).sum() / mask.sum().clamp(min=1)


def contrastive_loss(
    student: Tensor,
    teacher: Tensor,
    same: Tensor,
    *,
    temperature: float,
    others: Tensor | None = None,
) -> Tensor:
    """-mean_i log softmax_j(cos(s_i, t_j) / T)_i: the teacher's view of the same picture wins.

    Views (B, D); where `same` (B, B) says that i and j are one picture, j is no rival of i. Rivals
    are also `others` (Q, D), the teacher's views of former batches.
    Source: the noise-contrastive form of DistillVLM, arXiv 2104.02096.
    """
    candidates = teacher if others is None else torch.cat([teacher, others.to(teacher.dtype)])
    cosine = F.normalize(student, dim=-1) @ F.normalize(candidates, dim=-1).T  # (B, B + Q)
    itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
    hidden = F.pad(same & ~itself, (0, cosine.shape[1] - len(same)))
    scores = (cosine / temperature).masked_fill(hidden, -torch.inf)
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
