"""Distances from a teacher: none from itself, by hand else, and never a gradient to the teacher."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blip_edge.distill.losses import contrastive_loss, hidden_loss, logit_loss

# A divergence of equal distributions is a sum of rounding errors.
ZERO = 1e-6
MASK = torch.ones(2, 3)


@settings(deadline=None)
@given(st.integers(1, 4), st.floats(0.5, 5))
def test_a_perfect_student_loses_nothing(rows: int, temperature: float) -> None:
    logits, hidden = torch.randn(rows, 3, 7) * 5, torch.randn(rows, 3, 8)
    mask = torch.ones(rows, 3)
    loss = logit_loss(logits, logits.clone(), mask, temperature=temperature)
    assert loss.item() == pytest.approx(0, abs=ZERO * temperature**2)
    assert hidden_loss(hidden, hidden.clone()).item() == 0
    assert hidden_loss(hidden, hidden.clone(), mask).item() == 0


def test_logit_loss_by_hand() -> None:
    student = torch.tensor([[[0.0, 0.0]]])
    teacher = torch.tensor([[[2 * math.log(3.0), 0.0]]])
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    loss = logit_loss(student, teacher, torch.ones(1, 1), temperature=2.0)
    assert loss.item() == pytest.approx(expected)


def test_hidden_loss_by_hand() -> None:
    """Normalised, [1, -1] and [-1, 1] are 2 apart in each place."""
    student, teacher = torch.tensor([[[5.0, 3.0]]]), torch.tensor([[[0.0, 9.0]]])
    assert hidden_loss(student, teacher).item() == pytest.approx(4.0, rel=1e-4)


def test_hidden_loss_does_not_see_a_scale_that_the_next_layer_removes() -> None:
    hidden = torch.randn(2, 3, 16)
    assert hidden_loss(hidden * 7 + 2, hidden).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("which", ["logit", "hidden"])
def test_what_is_masked_does_not_count(which: str) -> None:
    student, teacher = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])

    def loss(student: Tensor) -> float:
        if which == "logit":
            return logit_loss(student, teacher, mask, temperature=1.0).item()
        return hidden_loss(student, teacher, mask).item()

    changed = student.clone()
    changed[mask == 0] += torch.randn(3, 5) * 9
    assert loss(changed) == pytest.approx(loss(student))
    changed[0, 0, 0] += 1
    assert loss(changed) != pytest.approx(loss(student))


def test_a_batch_of_nothing_but_padding_is_no_nan() -> None:
    values = torch.randn(2, 3, 5)
    assert logit_loss(values, values + 1, torch.zeros(2, 3), temperature=1.0).item() == 0
    assert hidden_loss(values, -values, torch.zeros(2, 3)).item() == 0


def test_contrastive_loss_by_hand() -> None:
    student = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    expected = -(math.log(1 / 2) + math.log(1 / 2)) / 2
    loss = contrastive_loss(student, teacher, torch.eye(2).bool(), temperature=0.5)
    assert loss.item() == pytest.approx(expected)
    teacher = torch.eye(2)
    floor = math.log(1 + math.exp(-1 / 0.5))
    loss = contrastive_loss(student, teacher, torch.eye(2).bool(), temperature=0.5)
    assert loss.item() == pytest.approx(floor)


def test_rows_of_one_picture_are_no_rivals() -> None:
    views = torch.randn(2, 4)
    same = torch.ones(2, 2, dtype=torch.bool)
    assert contrastive_loss(views, views, same, temperature=0.1).item() == pytest.approx(0)


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: logit_loss(s, t, MASK, temperature=2.0),
        lambda s, t: hidden_loss(s, t, MASK),
        lambda s, t: contrastive_loss(s[:, 0], t[:, 0], torch.eye(2).bool(), temperature=0.1),
    ],
)
def test_a_student_is_drawn_to_its_teacher(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    teacher = torch.randn(2, 3, 6)
    student = torch.randn(2, 3, 6, requires_grad=True)
    before = loss(student, teacher)
    before.backward()
    assert student.grad is not None and student.grad.any()
    assert loss(student.detach() - 0.01 * student.grad, teacher) < before
