"""Which rows may be told apart, and whom each is paired with."""

import torch
from torch import Tensor

from blip_edge.training.objectives.matching import belong_together, choose_pairs


def hardest(weights: Tensor) -> Tensor:
    return weights.argmax(-1)


def test_rows_of_one_picture_or_of_one_text_belong_together() -> None:
    """What stands under the padding is no word: it depends on who gathered the texts."""
    picture = torch.tensor([1, 2, 1, 3])
    ids = torch.tensor([[2, 7, 3, 0], [2, 8, 3, 0], [2, 9, 7, 3], [2, 8, 3, 9]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]])
    together = belong_together(torch.tensor([1, 2]), picture, ids, mask)
    assert together.tolist() == [[False, True, False, True], [True, False, True, False]]


def test_pairs_by_hand() -> None:
    """Two rows of this process among four; the second has nobody to be wrong with."""
    own = torch.tensor([1, 2])
    by_image = torch.tensor([[0.0, 9.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    by_text = torch.tensor([[3.0, 9.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    same = torch.tensor([[False, True, False, False], [True, True, True, True]])
    pairs = choose_pairs(own, by_image, by_text, same, floor=1e-4, draw=hardest)
    assert pairs.texts.tolist() == [1, 2, 3, 1]
    assert pairs.images.tolist() == [1, 2, 1, 0]
