"""A few logits and the weight of the rest: how far a student is, as far as that can be told."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from blip_edge.distill.losses import logit_loss, top_logit_loss
from blip_edge.distill.told import Predicted


def logits(seed: int, classes: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 5, classes, generator=generator).double() * 3
    return student, teacher


def few(teacher: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    values, ids = teacher.topk(k)
    others = (teacher / temperature).scatter(-1, ids, -torch.inf)
    return values, ids, others.logsumexp(-1)


@given(st.integers(0, 1000), st.integers(1, 8), st.floats(0.5, 4))
def test_less_is_asked_of_a_student_the_less_is_known(
    seed: int, k: int, temperature: float
) -> None:
    student, teacher = logits(seed)
    whole = logit_loss(student, teacher, temperature=temperature)
    part = top_logit_loss(student, *few(teacher, k, temperature), temperature=temperature)
    assert -1e-5 <= part <= whole + 1e-5
    itself = top_logit_loss(teacher, *few(teacher, k, temperature), temperature=temperature)
    assert abs(itself) < 1e-5


def test_it_is_the_divergence_over_one_class_fewer_and_by_hand() -> None:
    student, teacher = logits(1)
    all_but_one = top_logit_loss(student, *few(teacher, 8, 2.0), temperature=2.0)
    torch.testing.assert_close(all_but_one, logit_loss(student, teacher, temperature=2.0))
    p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
    weights = torch.tensor([0.2, 1.0, 0.5, 0.0, 0.3])
    total = torch.tensor(0.0).double()
    for row, weight in enumerate(weights):
        top = teacher[row].topk(2).indices.tolist()
        pairs = [(p[row, i], q[row, i]) for i in top]
        rest = [1 - torch.stack(column).sum() for column in zip(*pairs, strict=True)]
        pairs.append((rest[0], rest[1]))
        total += weight * 4 * sum(a * (a / b).log() for a, b in pairs)
    found = top_logit_loss(student, *few(teacher, 2, 2.0), weights, temperature=2.0)
    torch.testing.assert_close(found.double(), total / weights.sum(), rtol=1e-5, atol=1e-6)


def test_what_is_kept_is_small_and_near() -> None:
    """Large logits too: where half precision is coarse, only differences count."""
    student, teacher = (part.float() for part in logits(2, 60))
    whole = Predicted(teacher + 3000)
    exact = whole.loss(student, None, temperature=2.0)
    kept = whole.compact(0, 2.0)
    assert kept.values.dtype == torch.float16 and kept.ids is None
    torch.testing.assert_close(kept.loss(student, None, temperature=2.0), exact, rtol=2e-3, atol=0)
    top = whole.compact(20, 2.0)
    assert top.ids is not None and top.values.shape == top.ids.shape == (5, 20)
    near = top.loss(student, None, temperature=2.0)
    values, ids, rest = few(teacher, 20, 2.0)
    exact = top_logit_loss(student, values, ids, rest, temperature=2.0)
    torch.testing.assert_close(near, exact, rtol=2e-3, atol=0)
    assert whole.compact(60, 2.0).ids is None, "all of them are no more than all"


def test_a_student_hears_it_also_of_what_is_left() -> None:
    student, teacher = logits(3)
    student.requires_grad_()
    top_logit_loss(student, *few(teacher, 2, 1.0), temperature=1.0).backward()
    assert student.grad is not None and student.grad.isfinite().all()
    assert (student.grad != 0).all()
