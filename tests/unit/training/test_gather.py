"""One process alone gathers nothing; what two do is in test_two_processes."""

import torch

from blip_edge.training.gather import first_row, gather, gather_with_gradient


def test_alone_everything_is_left_as_it_is() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert gather(x) is x and gather_with_gradient(x) is x
    assert first_row(x) == 0
