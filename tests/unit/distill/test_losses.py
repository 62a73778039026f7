"""Distances from a teacher: none from itself, by hand else, and never a gradient to the teacher."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blip_edge.distill.losses import (
    affinity_loss,
    attention_loss,
    contrastive_loss,
    hidden_loss,
    logit_loss,
)

# A divergence of equal distributions is a sum of rounding errors.
ZERO = 1e-6
MASK = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
ALONE = torch.eye(2).bool()


@settings(deadline=None)
@given(st.integers(1, 4), st.floats(0.5, 5))
def test_a_perfect_student_loses_nothing(rows: int, temperature: float) -> None:
    logits, hidden = torch.randn(rows, 7) * 5, torch.randn(rows, 3, 8)
    maps, mask = torch.randn(rows, 4, 3, 5) * 5, torch.ones(rows, 3)
    for weights in (None, torch.rand(rows)):
        loss = logit_loss(logits, logits.clone(), weights, temperature=temperature)
        assert loss.item() == pytest.approx(0, abs=ZERO * temperature**2)
    assert affinity_loss(logits, logits.clone()).item() == pytest.approx(0, abs=ZERO)
    for where in (None, mask):
        assert hidden_loss(hidden, hidden.clone(), where).item() == 0
        assert attention_loss(maps, maps.clone(), where).item() == 0


def test_logit_loss_by_hand() -> None:
    student = torch.tensor([[0.0, 0.0]])
    teacher = torch.tensor([[2 * math.log(3.0), 0.0]])
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    loss = logit_loss(student, teacher, torch.ones(1), temperature=2.0)
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_logit_loss_is_torchs_divergence(temperature: float) -> None:
    student, teacher = torch.randn(6, 9), torch.randn(6, 9)
    expected = F.kl_div(
        (student / temperature).log_softmax(-1),
        (teacher / temperature).log_softmax(-1),
        reduction="batchmean",
        log_target=True,
    )
    got = logit_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(got, expected * temperature**2)


def test_predictions_count_by_their_weights() -> None:
    student, teacher = torch.randn(3, 5), torch.randn(3, 5)
    pairs = zip(student[:, None], teacher[:, None], strict=True)
    each = [logit_loss(*pair, temperature=2.0) for pair in pairs]
    got = logit_loss(student, teacher, torch.tensor([0.6, 0.0, 0.2]), temperature=2.0)
    torch.testing.assert_close(got, (0.6 * each[0] + 0.2 * each[2]) / 0.8)
    plain = logit_loss(student, teacher, temperature=2.0)
    torch.testing.assert_close(plain, torch.stack(each).mean())


def test_affinity_loss_is_the_divergence_over_candidates() -> None:
    student, teacher = torch.randn(4, 11), torch.randn(4, 11)
    p, q = teacher.softmax(-1), student.softmax(-1)
    expected = (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(affinity_loss(student, teacher), expected)


def test_hidden_loss_by_hand() -> None:
    """Normalised, [1, -1] and [-1, 1] are 2 apart in each place."""
    student, teacher = torch.tensor([[[5.0, 3.0]]]), torch.tensor([[[0.0, 9.0]]])
    assert hidden_loss(student, teacher).item() == pytest.approx(4.0, rel=1e-4)


def test_hidden_loss_does_not_see_a_scale_that_the_next_layer_removes() -> None:
    hidden = torch.randn(2, 3, 16)
    assert hidden_loss(hidden * 7 + 2, hidden).item() == pytest.approx(0, abs=1e-5)


def test_attention_loss_by_hand() -> None:
    """Two rows of a head; of the second both differ by the same, which a softmax does not see."""
    student = torch.tensor([[[[1.0, 3.0], [7.0, 7.0]]]])
    teacher = torch.tensor([[[[1.0, 1.0], [2.0, 2.0]]]])
    assert attention_loss(student, teacher).item() == pytest.approx((1 + 0) / 2)
    first = torch.tensor([[1.0, 0.0]])
    assert attention_loss(student, teacher, first).item() == pytest.approx(1.0)


def test_attention_to_what_may_not_be_looked_at_does_not_count() -> None:
    """The mean that is taken away is of the others too: (1, 3) against (1, 1), as above."""
    student = torch.tensor([[[[1.0, 3.0, 50.0], [7.0, 7.0, 7.0]]]])
    teacher = torch.tensor([[[[1.0, 1.0, -9.0], [2.0, 4.0, 2.0]]]])
    keys = torch.tensor([[[[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]]])
    assert attention_loss(student, teacher, keys=keys).item() == pytest.approx((1 + 0) / 2)
    nothing = torch.zeros_like(keys)
    assert attention_loss(student, teacher, keys=nothing).item() == 0


def test_other_numbers_of_heads_are_compared_by_their_means() -> None:
    student, teacher = torch.randn(2, 4, 3, 5), torch.randn(2, 2, 3, 5)
    one = attention_loss(student.mean(1, keepdim=True), teacher.mean(1, keepdim=True))
    torch.testing.assert_close(attention_loss(student, teacher), one)


@pytest.mark.parametrize("which", ["hidden", "attention"])
def test_what_is_masked_does_not_count(which: str) -> None:
    shape = (2, 3, 5) if which == "hidden" else (2, 4, 3, 5)
    function = hidden_loss if which == "hidden" else attention_loss
    student, teacher = torch.randn(shape), torch.randn(shape)

    def loss(student: Tensor) -> float:
        return function(student, teacher, MASK).item()

    changed = student.clone()
    rows = changed if which == "hidden" else changed.transpose(1, 2)
    rows[MASK == 0] += torch.randn_like(rows[MASK == 0]) * 9
    assert loss(changed) == pytest.approx(loss(student))
    rows[0, 0, ..., 0] += 1
    assert loss(changed) != pytest.approx(loss(student))


def test_a_batch_of_nothing_but_padding_is_no_nan() -> None:
    values, maps = torch.randn(2, 3, 5), torch.randn(2, 4, 3, 5)
    weights = torch.zeros(3)
    assert logit_loss(values[0], values[1], weights, temperature=1.0).item() == 0
    assert hidden_loss(values, -values, torch.zeros(2, 3)).item() == 0
    assert attention_loss(maps, -maps, torch.zeros(2, 3)).item() == 0


def test_contrastive_loss_by_hand() -> None:
    student = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    expected = -(math.log(1 / 2) + math.log(1 / 2)) / 2
    loss = contrastive_loss(student, teacher, ALONE, temperature=0.5)
    assert loss.item() == pytest.approx(expected)
    teacher = torch.eye(2)
    floor = math.log(1 + math.exp(-1 / 0.5))
    loss = contrastive_loss(student, teacher, ALONE, temperature=0.5)
    assert loss.item() == pytest.approx(floor)


def test_rows_of_one_picture_are_no_rivals() -> None:
    views = torch.randn(2, 4)
    same = torch.ones(2, 2, dtype=torch.bool)
    assert contrastive_loss(views, views, same, temperature=0.1).item() == pytest.approx(0)


def test_views_of_former_batches_are_rivals_too() -> None:
    student, teacher, others = torch.randn(3, 4), torch.randn(3, 4), torch.randn(5, 4)
    same = torch.eye(3).bool()
    same[0, 1] = same[1, 0] = True
    candidates = F.normalize(torch.cat([teacher, others]), dim=-1)
    expected = []
    for i, view in enumerate(F.normalize(student, dim=-1)):
        rivals = [j for j in range(8) if j == i or j >= 3 or not same[i, j]]
        shares = (candidates[rivals] @ view / 0.2).log_softmax(-1)
        expected.append(-shares[rivals.index(i)])
    got = contrastive_loss(student, teacher, same, temperature=0.2, others=others)
    torch.testing.assert_close(got, torch.stack(expected).mean())
    nobody = contrastive_loss(student, teacher, same, temperature=0.2, others=others[:0])
    torch.testing.assert_close(nobody, contrastive_loss(student, teacher, same, temperature=0.2))


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: logit_loss(s[0], t[0], temperature=2.0),
        lambda s, t: affinity_loss(s[0], t[0]),
        lambda s, t: hidden_loss(s, t, MASK),
        lambda s, t: attention_loss(s[:, None], t[:, None], MASK),
        lambda s, t: contrastive_loss(s[:, 0], t[:, 0], ALONE, temperature=0.1),
    ],
    ids=["logit", "affinity", "hidden", "attention", "contrastive"],
)
def test_a_student_is_drawn_to_its_teacher(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    teacher = torch.randn(2, 3, 6)
    student = torch.randn(2, 3, 6, requires_grad=True)
    before = loss(student, teacher)
    before.backward()
    assert student.grad is not None and student.grad.any()
    assert loss(student.detach() - 0.01 * student.grad, teacher) < before
