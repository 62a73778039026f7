"""Losses against numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blip_edge.training.losses import (
    IGNORED,
    answer_loss,
    contrastive_loss,
    hard_negatives,
    lm_loss,
    ramp,
    similarities,
    soft_targets,
)


def test_soft_targets_by_hand() -> None:
    similarity = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    own = torch.eye(2, dtype=torch.bool)
    expected = torch.tensor([[0.4 * 0.25 + 0.6, 0.4 * 0.75], [0.2, 0.2 + 0.6]])
    torch.testing.assert_close(soft_targets(similarity, own, 0.4), expected)
    assert torch.equal(soft_targets(similarity, own, 0.0), torch.eye(2))


def test_all_that_belongs_together_shares() -> None:
    """Two captions in the batch and one in the queue are a third each."""
    positives = torch.tensor([[1, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0]]).bool()
    expected = torch.tensor([[1 / 3, 0, 1 / 3, 0, 1 / 3, 0], [0, 1, 0, 0, 0, 0]])
    torch.testing.assert_close(soft_targets(torch.randn(2, 6), positives, 0.0), expected)
    half = torch.tensor([0.5 / 3 + 0.5 / 6, 0.5 / 6]).repeat(3)
    torch.testing.assert_close(soft_targets(torch.zeros(1, 6), positives[:1], 0.5)[0], half)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.lists(st.integers(-1, 4), max_size=9),
    st.floats(0, 1),
)
def test_soft_targets_are_shares_of_one(rows: list[int], queued: list[int], alpha: float) -> None:
    pictures, candidates = torch.tensor(rows), torch.tensor([*rows, *queued])
    similarity = torch.randn(len(rows), len(candidates)) * 5
    targets = soft_targets(similarity, pictures[:, None] == candidates[None, :], alpha)
    torch.testing.assert_close(targets.sum(-1), torch.ones(len(rows)))
    assert (targets >= 0).all()


def test_soft_targets_come_in_along_a_ramp() -> None:
    assert [ramp(0.4, step, 4) for step in (0, 1, 3, 4, 9)] == [
        0.0,
        0.1,
        pytest.approx(0.3),
        0.4,
        0.4,
    ]
    assert ramp(0.4, 0, 0) == 0.4, "no ramp is no first step without"


def test_similarities_by_hand_and_in_full_precision_everywhere() -> None:
    rows, candidates = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    expected = torch.tensor([[0.6 / 0.05, 0.96 / 0.05]])
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(similarities(rows, candidates, torch.tensor(0.05)), expected)


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


def test_answers_count_whole_and_by_weight() -> None:
    """Two answers of one question, three tokens of which are learned, and a second question's."""
    logits = torch.tensor([[0.0, math.log(3.0)]]).repeat(3, 3, 1)
    labels = torch.tensor([[0, 1, 1], [0, 0, IGNORED], [0, 1, IGNORED]])
    right, wrong = -math.log(3 / 4), -math.log(1 / 4)
    expected = (0.6 * 2 * right + 0.4 * wrong + 0.2 * right) / 2
    weights = torch.tensor([0.6, 0.4, 0.2])
    assert answer_loss(logits, labels, weights, 2).item() == pytest.approx(expected)
    smooth = answer_loss(logits, labels, weights, 2, label_smoothing=0.1).item()
    right, wrong = 0.95 * right + 0.05 * wrong, 0.95 * wrong + 0.05 * right
    assert smooth == pytest.approx((0.6 * 2 * right + 0.4 * wrong + 0.2 * right) / 2)


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


@pytest.mark.parametrize("floor", [0.0, 1e-2])
def test_weights_of_negatives_by_hand(floor: float) -> None:
    """Shares of the softmax over the whole row, partners included, and then the floor."""
    seen: list[Tensor] = []

    def draw(weights: Tensor) -> Tensor:
        seen.append(weights)
        return weights.argmax(-1)

    similarity = torch.tensor([[4.0, 1.0, 0.0]])
    same = torch.tensor([[True, False, False]])
    columns, _ = hard_negatives(similarity, same, floor=floor, draw=draw)
    whole = math.exp(4) + math.exp(1) + 1
    weights = [math.exp(1) / whole + floor, 1 / whole + floor]
    expected = torch.tensor([[0.0, weights[0] / sum(weights), weights[1] / sum(weights)]])
    torch.testing.assert_close(seen[0], expected)
    assert columns.tolist() == [1]


def test_without_a_floor_a_partner_takes_nothing_from_the_others() -> None:
    similarity = torch.tensor([[900.0, 0.0, 2.0], [0.0, 900.0, -1.0], [1.0, 0.0, 900.0]])
    same = torch.eye(3, dtype=torch.bool)
    columns, found = hard_negatives(
        similarity, same, floor=0.0, draw=lambda weights: weights.argmax(-1)
    )
    assert columns.tolist() == [2, 0, 0] and found.all()


def test_similarities_that_are_no_numbers_are_left_to_the_loop() -> None:
    columns, _ = hard_negatives(torch.full((2, 2), torch.nan), torch.eye(2).bool())
    assert columns.shape == (2,)


def test_one_generator_draws_the_same_negatives_again() -> None:
    similarity, same = torch.randn(20, 20), torch.eye(20, dtype=torch.bool)

    def drawn(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return hard_negatives(
            similarity,
            same,
            draw=lambda weights: torch.multinomial(weights, 1, generator=generator).squeeze(1),
        )[0]

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
