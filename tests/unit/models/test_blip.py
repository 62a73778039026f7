"""The whole network: as large as published, with the parts that its purpose needs."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from blip_edge.models import Blip, BlipConfig, TextConfig, VisionConfig, build, count_parameters
from blip_edge.models.config import Architecture
from tests import tiny

BASE = VisionConfig()
LARGE = VisionConfig(
    hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
)
# Published totals are rounded to a tenth of a million.
ROUNDING = 0.1


def on_meta(architecture: Architecture, vision: VisionConfig) -> Blip:
    """A network whose tensors have shapes and no contents."""
    text = TextConfig(encoder_hidden_size=vision.hidden_size)
    with torch.device("meta"):
        return Blip(BlipConfig(vision_config=vision, text_config=text, architecture=architecture))


def millions(module: nn.Module) -> float:
    return count_parameters(module) / 1e6


def test_the_base_captioner_has_the_published_number_of_parameters() -> None:
    blip = on_meta("BlipForConditionalGeneration", BASE)
    block = blip.decoder.bert.blocks[0]
    assert millions(blip) == pytest.approx(223.97, abs=ROUNDING)
    assert millions(blip.vision_model) == pytest.approx(86.09, abs=ROUNDING)
    assert millions(blip.decoder.bert.embeddings) == pytest.approx(23.84, abs=ROUNDING)
    # BLIP's tables count projections and output with its LayerNorm.
    assert 12 * millions(block.attention) == pytest.approx(28.37, abs=ROUNDING)
    assert 12 * millions(block.crossattention) == pytest.approx(28.37, abs=ROUNDING)
    assert millions(blip.decoder.cls) == pytest.approx(0.62, abs=ROUNDING)


def test_the_large_captioner_has_the_published_number_of_parameters() -> None:
    blip = on_meta("BlipForConditionalGeneration", LARGE)
    assert millions(blip) == pytest.approx(446.3, abs=ROUNDING)
    assert millions(blip.vision_model) == pytest.approx(303.69, abs=ROUNDING)


def test_a_matcher_has_the_published_number_of_parameters() -> None:
    assert millions(on_meta("BlipForImageTextRetrieval", BASE)) == pytest.approx(223.7, abs=0.1)


def test_pretraining_shares_all_but_self_attention() -> None:
    """252 M with sharing, 361 M without (paper, table 3)."""
    blip = on_meta("BlipForPreTraining", replace(BASE, image_size=224))
    assert millions(blip) == pytest.approx(252.4, abs=ROUNDING)


@pytest.mark.parametrize(
    ("architecture", "generates", "matches"),
    [
        ("BlipForConditionalGeneration", True, False),
        ("BlipForImageTextRetrieval", False, True),
        ("BlipForPreTraining", True, True),
    ],
)
def test_a_model_has_the_parts_that_it_is_for(
    architecture: Architecture, generates: bool, matches: bool
) -> None:
    blip = build(tiny.config(architecture))
    assert (blip.text_decoder is not None) == generates
    assert (blip.text_encoder is not None) == hasattr(blip, "itm_head") == matches


def test_fresh_weights_keep_the_size_of_signals() -> None:
    """0.02 at a width of 768; with 0.02 at every width a small model hardly starts to learn."""
    torch.manual_seed(0)
    blip = build(tiny.config())
    layer = blip.vision_model.blocks[0].mlp.fc1
    assert layer.weight.std().item() == pytest.approx(0.02 * (768 / 32) ** 0.5, rel=0.1)
    assert not layer.bias.any()
    assert all(torch.isfinite(parameter).all() for parameter in blip.parameters())


@torch.no_grad()
def test_embeddings_are_unit_vectors_and_matching_has_two_classes() -> None:
    blip = tiny.lively(tiny.config("BlipForImageTextRetrieval"))
    ids = torch.randint(5, 60, (3, 7))
    mask = torch.ones_like(ids)
    tokens = blip.vision_model(torch.randn(3, 3, 24, 24))
    for vectors in (blip.embed_image(tokens), blip.embed_text(ids, mask)):
        assert vectors.shape == (3, 8)
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    assert blip.itm_logits(ids, mask, blip.encoder.cross(tokens)).shape == (3, 2)


@torch.no_grad()
def test_padding_of_an_encoded_text_changes_nothing() -> None:
    """A text's embedding must not depend on what it is batched with."""
    blip = tiny.lively(tiny.config("BlipForImageTextRetrieval"))
    ids = torch.randint(5, 60, (2, 6))
    mask = torch.ones_like(ids)
    tokens = blip.vision_model(torch.randn(2, 3, 24, 24))
    # Whatever stands under the padding, not only [PAD].
    longer = torch.cat([ids, torch.randint(5, 60, (2, 3))], dim=1)
    padded = torch.cat([mask, torch.zeros(2, 3, dtype=torch.long)], dim=1)
    torch.testing.assert_close(blip.embed_text(longer, padded), blip.embed_text(ids, mask))
    torch.testing.assert_close(
        blip.itm_logits(longer, padded, blip.encoder.cross(tokens)),
        blip.itm_logits(ids, mask, blip.encoder.cross(tokens)),
    )
