"""The image tower: every patch has its place, and layers may be of different sizes."""

from dataclasses import replace

import pytest
import torch

from blip_edge.models import VisionConfig
from blip_edge.models.vit import VisionModel, sine_positions
from tests import tiny

SIZES = tiny.config().vision_config


def model(config: VisionConfig = SIZES) -> VisionModel:
    blip = tiny.lively(replace(tiny.config(), vision_config=config))
    return blip.vision_model


@torch.no_grad()
def test_one_token_a_patch_and_one_for_all() -> None:
    hidden: list[torch.Tensor] = []
    tokens = model()(torch.randn(2, 3, 24, 24), hidden)
    assert tokens.shape == (2, SIZES.num_tokens, 32) == (2, 10, 32)
    assert [layer.shape for layer in hidden] == [tokens.shape] * 2


@torch.no_grad()
def test_a_batch_is_its_pictures_one_by_one() -> None:
    vit, pictures = model(), torch.randn(3, 3, 24, 24)
    alone = torch.cat([vit(picture[None]) for picture in pictures])
    torch.testing.assert_close(vit(pictures), alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_patch_is_seen_in_its_own_place() -> None:
    """Before attention mixes them, a change in patch (row 1, column 2) is in token 1 + 5 only."""
    embeddings = model().embeddings
    picture = torch.randn(1, 3, 24, 24)
    changed = picture.clone()
    changed[:, :, 8:16, 16:24] += 1.0
    differs = (embeddings(picture) != embeddings(changed)).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == [6]


@torch.no_grad()
def test_where_a_thing_is_makes_a_difference() -> None:
    """Without positions, moving a picture's patches would only permute the tokens."""
    vit, picture = model(), torch.randn(1, 3, 24, 24)
    moved = picture.roll(8, dims=-1)
    assert (vit(picture)[:, 0] - vit(moved)[:, 0]).abs().max() > 1e-3


@torch.no_grad()
def test_layers_may_have_sizes_of_their_own() -> None:
    uneven = replace(
        SIZES, num_attention_heads=(1, 3), intermediate_size=(8, 16), head_dim=SIZES.head_width
    )
    vit = model(uneven)
    assert [layer.self_attn.heads for layer in vit.blocks] == [1, 3]
    assert [layer.mlp.fc1.out_features for layer in vit.blocks] == [8, 16]
    assert vit(torch.randn(1, 3, 24, 24)).shape == (1, 10, 32)


def test_attention_dropout_is_for_training_only() -> None:
    vit = model(replace(SIZES, attention_dropout=0.5))
    picture = torch.randn(1, 3, 24, 24)
    assert torch.equal(vit(picture), vit(picture))
    vit.train()
    assert not torch.equal(vit(picture), vit(picture))


def test_sine_positions_by_hand() -> None:
    config = VisionConfig(image_size=12, patch_size=4, hidden_size=8, num_attention_heads=2)
    positions = sine_positions(config)
    assert positions.shape == (1, 10, 8)
    assert not positions[0, 0].any()
    row, column = torch.tensor(1.0), torch.tensor(2.0)
    waves = torch.tensor([1.0, 1e-4])
    expected = torch.cat(
        [(row * waves).sin(), (row * waves).cos(), (column * waves).sin(), (column * waves).cos()]
    )
    torch.testing.assert_close(positions[0, 1 + 3 * 1 + 2], expected)


@pytest.mark.parametrize("width", [2, 6, 10])
def test_sine_positions_for_widths_that_do_not_split_in_four(width: int) -> None:
    config = VisionConfig(image_size=8, patch_size=4, hidden_size=width, num_attention_heads=1)
    assert sine_positions(config).shape == (1, 5, width)
