"""The slow copies follow by the formula, and the queue holds the newest features."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from blip_edge.models import Model
from blip_edge.training.momentum import NO_PICTURE, FeatureQueue, MomentumEncoders, PictureQueue


@settings(deadline=None)
@given(st.integers(1, 7), st.lists(st.integers(0, 16), max_size=6))
def test_the_queue_holds_the_newest_of_all_that_was_pushed(size: int, batches: list[int]) -> None:
    queue = FeatureQueue(size, 2)
    pushed = [row.clone() for row in queue.items]
    for number, rows in enumerate(batches):
        features = torch.full((rows, 2), float(number)) + torch.arange(rows)[:, None] / 100
        queue.push(features)
        pushed += list(features)
    newest = sorted(row.tolist() for row in pushed[-size:])
    assert sorted(row.tolist() for row in queue.items) == newest


def test_the_oldest_is_overwritten_first() -> None:
    queue = FeatureQueue(3, 1)
    for first in (1.0, 3.0):
        queue.push(torch.tensor([[first], [first + 1]]))
    assert queue.items.flatten().tolist() == [4.0, 2.0, 3.0]


def test_wrapping_around_by_hand() -> None:
    """Batches of 3, 3, 1, 9 and 2 in a queue of 4, which divides none of them."""
    queue, states, number = PictureQueue(4), [], 0
    for rows in (3, 3, 1, 9, 2):
        queue.push(torch.arange(number, number + rows))
        states.append(queue.items.tolist())
        number += rows
    assert states == [
        [0, 1, 2, NO_PICTURE],
        [4, 5, 2, 3],
        [4, 5, 6, 3],
        [13, 14, 15, 12],
        [17, 14, 15, 16],
    ]


def test_queues_of_pictures_and_features_stay_side_by_side() -> None:
    pictures, features = PictureQueue(5), FeatureQueue(5, 1)
    for numbers in ([1, 2, 3], [4, 5, 6, 7], [8], list(range(9, 20))):
        pictures.push(torch.tensor(numbers))
        features.push(torch.tensor(numbers)[:, None].float())
        known = pictures.items != NO_PICTURE
        assert pictures.items[known].tolist() == features.items[known].flatten().tolist()


def test_a_queue_begins_alike_in_every_process_and_unlike_its_neighbour() -> None:
    torch.manual_seed(1)
    one = FeatureQueue(5, 4)
    torch.manual_seed(2)
    assert torch.equal(one.items, FeatureQueue(5, 4).items)
    assert not torch.equal(one.items, FeatureQueue(5, 4, seed=1).items)


def test_a_queue_goes_on_where_it_was_saved() -> None:
    saved, again = PictureQueue(4), PictureQueue(4)
    saved.push(torch.arange(3))
    again.load_state_dict(saved.state_dict())
    for queue in (saved, again):
        queue.push(torch.arange(10, 13))
    assert again.items.tolist() == saved.items.tolist() == [11, 12, 2, 10]


def test_a_queue_of_nothing_remembers_nothing() -> None:
    queue = FeatureQueue(0, 4)
    queue.push(torch.ones(3, 4))
    assert queue.items.shape == (0, 4)


def test_a_queue_starts_with_unit_vectors_and_keeps_no_graph() -> None:
    queue = FeatureQueue(5, 4)
    torch.testing.assert_close(queue.items.norm(dim=-1), torch.ones(5))
    queue.push(torch.ones(2, 4, requires_grad=True) * 2)
    assert not queue.items.requires_grad


def test_slow_copies_follow_by_the_formula(pretrained: Model) -> None:
    blip = pretrained.blip
    slow = MomentumEncoders(blip, 0.9)
    before = copy.deepcopy(slow.state_dict())
    with torch.no_grad():
        for parameter in blip.parameters():
            parameter.add_(1.0)
    slow.follow(blip)
    names = [name for name, _ in slow.named_parameters()]
    for name in names:
        torch.testing.assert_close(slow.state_dict()[name], before[name] + 0.1)
    weight = "encoder.layers.1.mlp.fc1.weight"
    moved = slow.state_dict()[f"parts.0.{weight}"]
    fast = blip.vision_model.state_dict()[weight]
    torch.testing.assert_close(moved, 0.9 * (fast - 1.0) + 0.1 * fast)


def test_slow_copies_start_equal_and_are_copies(pretrained: Model) -> None:
    blip = pretrained.blip
    slow = MomentumEncoders(blip, 0.5)
    pixels = torch.randn(2, 3, 24, 24)
    ids, mask = torch.randint(5, 20, (2, 4)), torch.ones(2, 4)
    image, text = slow.features(pixels, ids, mask)
    torch.testing.assert_close(image, blip.embed_image(blip.vision_model(pixels)))
    torch.testing.assert_close(text, blip.embed_text(ids, mask))
    with torch.no_grad():
        blip.vision_proj.weight.zero_()
    torch.testing.assert_close(slow.features(pixels, ids, mask)[0], image)


def test_slow_copies_drop_nothing_out(pretrained: Model) -> None:
    """They are targets, however training has set what holds them."""
    slow = MomentumEncoders(pretrained.blip, 0.5)
    dropouts = [part for part in slow.modules() if isinstance(part, nn.Dropout)]
    assert dropouts
    for part in dropouts:
        part.p = 0.5
    ids, pixels = torch.arange(5, 9)[None], torch.randn(1, 3, 24, 24)
    first, again = (slow.train().features(pixels, ids, torch.ones(1, 4)) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_no_gradient_reaches_the_slow_copies(pretrained: Model) -> None:
    slow = MomentumEncoders(pretrained.blip, 0.5)
    ids = torch.ones(1, 2).long()
    image, text = slow.features(torch.randn(1, 3, 24, 24), ids, ids)
    assert not image.requires_grad and not text.requires_grad
    assert not any(parameter.requires_grad for parameter in slow.parameters())
    assert all(parameter.requires_grad for parameter in pretrained.blip.parameters())


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_the_ends_of_momentum(pretrained: Model, momentum: float) -> None:
    blip = pretrained.blip
    slow = MomentumEncoders(blip, momentum)
    old = blip.vision_proj.weight.detach().clone()
    with torch.no_grad():
        blip.vision_proj.weight.add_(1.0)
    slow.follow(blip)
    expected = old if momentum else blip.vision_proj.weight
    torch.testing.assert_close(slow.parts[2].weight, expected, check_stride=False)
