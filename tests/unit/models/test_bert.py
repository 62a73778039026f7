"""The text tower: nobody sees the future or the padding, and a cache changes nothing."""

from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blip_edge.models import Blip, TextConfig
from blip_edge.models.attention import MASKED, Cross, causal_mask, padding_mask
from tests import tiny

# float32, and sums in another order.
CLOSE = 1e-5
SIZES = tiny.config()
BLIP = tiny.lively(SIZES)


def cross(images: int, blip: Blip = BLIP) -> list[Cross]:
    pictures = torch.randn(images, 3, 24, 24, generator=torch.Generator().manual_seed(4))
    return blip.decoder.bert.cross(blip.vision_model(pictures))


def words(rows: int, tokens: int, seed: int = 0) -> Tensor:
    return torch.randint(5, 60, (rows, tokens), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@settings(max_examples=20, deadline=None)
@given(position=st.integers(1, 8), token=st.integers(0, 59))
def test_a_later_token_never_changes_an_earlier_one(position: int, token: int) -> None:
    ids = words(2, 9)
    changed = ids.clone()
    changed[:, position] = token
    before, _ = BLIP.decoder(ids, cross(2))
    after, _ = BLIP.decoder(changed, cross(2))
    assert torch.equal(before[:, :position], after[:, :position])
    if (ids[:, position] != token).all():
        assert (before[:, position:] - after[:, position:]).abs().amax((1, 2)).min() > 1e-3


@torch.no_grad()
@settings(max_examples=10, deadline=None)
@given(padding=st.integers(1, 8), pad=st.integers(0, 59))
def test_padding_on_the_right_never_changes_a_real_token(padding: int, pad: int) -> None:
    ids = words(2, 5)
    padded = torch.cat([ids, torch.full((2, padding), pad)], dim=1)
    alone, _ = BLIP.decoder(ids, cross(2))
    together, _ = BLIP.decoder(padded, cross(2))
    torch.testing.assert_close(together[:, :5], alone, rtol=CLOSE, atol=CLOSE)


@torch.no_grad()
def test_a_picture_matters_at_every_layer() -> None:
    """A layer that dropped its cross-attention would still pass every test of shapes."""
    ids, seen = words(1, 4), cross(1)
    whole, _ = BLIP.decoder(ids, seen)
    for number in range(len(seen)):
        blind = list(seen)
        blind[number] = Cross(seen[number].key, torch.zeros_like(seen[number].value))
        assert (BLIP.decoder(ids, blind)[0] - whole).abs().max() > 1e-3


@torch.no_grad()
def test_rows_of_a_picture_share_its_keys_and_values() -> None:
    ids = words(6, 4)
    shared, _ = BLIP.decoder(ids, cross(2))
    copied = [
        Cross(c.key.repeat_interleave(3, dim=0), c.value.repeat_interleave(3, dim=0))
        for c in cross(2)
    ]
    torch.testing.assert_close(shared, BLIP.decoder(ids, copied)[0], rtol=CLOSE, atol=CLOSE)


@torch.no_grad()
def test_a_cache_of_any_split_gives_the_same_logits() -> None:
    ids, seen = words(2, 7), cross(2)
    whole, _ = BLIP.decoder(ids, seen)
    for split in range(1, 7):
        first, past = BLIP.decoder(ids[:, :split], seen)
        second, past = BLIP.decoder(ids[:, split:], seen, past)
        got = torch.cat([first, second], dim=1)
        torch.testing.assert_close(got, whole, rtol=CLOSE, atol=CLOSE)
        assert past[0][0].shape == (2, 4, 7, 4)


@torch.no_grad()
def test_shapes_of_what_passes_between_the_towers() -> None:
    seen = cross(3)
    assert [(c.key.shape, c.value.shape) for c in seen] == [((3, 4, 4, 10), (3, 4, 10, 4))] * 2
    hidden: list[Tensor] = []
    logits, present = BLIP.decoder(words(3, 5), seen, hidden_states=hidden)
    assert logits.shape == (3, 5, 60)
    assert [layer.shape for layer in hidden] == [(3, 5, 16)] * 2
    assert len(present) == 2


@torch.no_grad()
def test_layers_may_have_sizes_of_their_own() -> None:
    text = replace(
        SIZES.text_config,
        num_attention_heads=(1, 3),
        cross_attention_heads=(4, 2),
        intermediate_size=(8, 24),
        head_dim=4,
    )
    blip = tiny.lively(replace(SIZES, text_config=text))
    seen = cross(1, blip)
    assert [c.key.shape[1] for c in seen] == [4, 2]
    logits, present = blip.decoder(words(1, 5), seen)
    assert logits.shape == (1, 5, 60)
    assert [key.shape[1] for key, _ in present] == [1, 3]


@torch.no_grad()
def test_without_a_picture_the_layers_skip_cross_attention() -> None:
    bert = BLIP.decoder.bert
    hidden, _ = bert(words(2, 4))
    with_picture, _ = bert(words(2, 4), cross=cross(2))
    assert (hidden - with_picture).abs().max() > 1e-3


def answered(blip: Blip, ids: Tensor, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits of a text for each picture, and every weight's gradient."""
    blip.zero_grad()
    logits = blip.lm_logits(ids, blip.image_tokens(pictures))
    logits.square().mean().backward()
    named = blip.named_parameters()
    return logits.detach(), {name: p.grad.clone() for name, p in named if p.grad is not None}


@pytest.mark.parametrize("tokens", [2, 6])
def test_training_may_skip_keys_and_values_and_learns_the_same(tokens: int) -> None:
    """Of 10 image tokens and heads of width 4, texts of at most 2 tokens are cheaper without."""
    blip = tiny.lively(SIZES)
    made: list[Tensor] = []
    projection = blip.decoder.bert.blocks[1].crossattention.self.key
    projection.register_forward_hook(lambda *seen: made.append(seen[2]))
    ids, pictures = words(3, tokens), torch.randn(3, 3, 24, 24)
    want, gradients = answered(blip, ids, pictures)
    assert len(made) == 1
    got, found = answered(blip.train(), ids, pictures)
    assert len(made) == (1 if tokens == 2 else 2)
    torch.testing.assert_close(got, want, rtol=CLOSE, atol=CLOSE)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=CLOSE, msg=name)


@torch.no_grad()
def test_shares_are_the_same_without_keys() -> None:
    layer = BLIP.decoder.bert.blocks[0].crossattention
    x, tokens = torch.randn(3, 2, 16), torch.randn(3, 10, 32)
    looked: list[Tensor] = []
    glanced: list[Tensor] = []
    want = layer(x, layer.project(tokens), looked)
    torch.testing.assert_close(layer(x, tokens, glanced), want, rtol=CLOSE, atol=CLOSE)
    assert glanced[0].shape == (3, 4, 2, 10)
    torch.testing.assert_close(glanced[0], looked[0], rtol=CLOSE, atol=CLOSE)


@torch.no_grad()
def test_logits_of_chosen_positions_alone() -> None:
    ids, pictures = words(2, 5), torch.randn(2, 3, 24, 24)
    where = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 1, 0]]).bool()
    tokens = BLIP.image_tokens(pictures)
    got = BLIP.lm_logits(ids, tokens, where)
    assert got.shape == (4, 60)
    torch.testing.assert_close(got, BLIP.lm_logits(ids, tokens)[where], rtol=CLOSE, atol=CLOSE)


def test_masks_by_hand() -> None:
    m = MASKED
    assert causal_mask(2, 1, torch.device("cpu"))[0, 0].tolist() == [[0, 0, m], [0, 0, 0]]
    assert padding_mask(torch.tensor([[1, 1, 0]]))[0, 0, 0].tolist() == [0, 0, m]
    assert -65504 < m < -1000, "half precision must hold it, and softmax must make nothing of it"


@pytest.mark.parametrize("part", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_is_for_training_only(part: str) -> None:
    text = TextConfig(**{**asdict(SIZES.text_config), part: 0.5})
    blip = tiny.lively(replace(SIZES, text_config=text))
    ids, seen = words(1, 4), cross(1, blip)
    assert torch.equal(blip.decoder(ids, seen)[0], blip.decoder(ids, seen)[0])
    blip.train()
    assert not torch.equal(blip.decoder(ids, seen)[0], blip.decoder(ids, seen)[0])
