"""Losses against numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.training.losses import (
    IGNORED,
    contrastive_loss,
    hard_negatives,
    lm_loss,
    soft_targets,
)


def test_soft_targets_by_hand() -> None:
    similarity = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    expected = torch.tensor([[0.4 * 0.25 + 0.6, 0.4 * 0.75], [0.2, 0.2 + 0.6]])
    torch.testing.assert_close(soft_targets(similarity, 0.4), expected)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(0, 9), st.floats(0, 1))
def test_soft_targets_are_shares_of_one(rows: int, queued: int, alpha: float) -> None:
    targets = soft_targets(torch.randn(rows, rows + queued) * 5, alpha)
    torch.testing.assert_close(targets.sum(-1), torch.ones(rows))
    assert (targets >= 0).all()


def test_soft_targets_of_no_weight_are_the_pairs() -> None:
    assert torch.equal(soft_targets(torch.randn(2, 5), 0.0), torch.eye(5)[:2])


def test_contrastive_loss_by_hand() -> None:
    similarity = torch.tensor([[math.log(3.0), 0.0, 0.0], [0.0, 0.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    expected = (-math.log(3 / 5) - math.log(1 / 3)) / 2
    assert contrastive_loss(similarity, targets).item() == pytest.approx(expected)


def test_lm_loss_by_hand() -> None:
    """Position 0 predicts token 1; what is ignored and the last position do not count."""
    logits = torch.tensor([[[0.0, math.log(3.0)], [math.log(4.0), 0.0], [9.0, -9.0]]])
    labels = torch.tensor([[0, 1, 0]])
    expected = (-math.log(3 / 4) - math.log(4 / 5)) / 2
    assert lm_loss(logits, labels).item() == pytest.approx(expected)
    assert lm_loss(logits, torch.tensor([[0, 1, IGNORED]])).item() == pytest.approx(
        -math.log(3 / 4)
    )


def test_label_smoothing_by_hand() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0]]])
    expected = -0.95 * math.log(3 / 4) - 0.05 * math.log(1 / 4)
    loss = lm_loss(logits, torch.tensor([[0, 1]]), label_smoothing=0.1)
    assert loss.item() == pytest.approx(expected)


def test_hard_negatives_never_are_partners() -> None:
    torch.manual_seed(1)
    picture = torch.tensor([0, 0, 1, 2, 2])
    same = picture[:, None] == picture[None, :]
    # Partners look most alike, as they do in training.
    similarity = torch.randn(5, 5) + 20 * same
    for _ in range(50):
        columns, found = hard_negatives(similarity, same)
        assert found.all()
        assert not same[torch.arange(5), columns].any()


def test_hard_negatives_prefer_what_looks_right() -> None:
    torch.manual_seed(1)
    similarity = torch.tensor([[0.0, 0.0, 4.0]]).repeat(3, 1)
    same = torch.eye(3, dtype=torch.bool)
    drawn = torch.stack([hard_negatives(similarity, same)[0][0] for _ in range(100)])
    assert 80 < (drawn == 2).sum() <= 100


def test_an_easy_negative_is_still_possible() -> None:
    """Weights that underflow to 0 would be an error of multinomial's."""
    similarity = torch.tensor([[500.0, -500.0], [-500.0, 500.0]])
    columns, found = hard_negatives(similarity, torch.eye(2, dtype=torch.bool))
    assert columns.tolist() == [1, 0] and found.all()


@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_of_one_picture_has_no_negatives(rows: int) -> None:
    columns, found = hard_negatives(torch.zeros(rows, rows), torch.ones(rows, rows).bool())
    assert columns.shape == (rows,) and not found.any()


def test_one_row_without_a_negative_does_not_stop_the_others() -> None:
    same = torch.tensor([[True, True, True], [True, True, False], [True, False, True]])
    columns, found = hard_negatives(torch.zeros(3, 3), same)
    assert found.tolist() == [False, True, True]
    assert columns[1:].tolist() == [2, 1]
