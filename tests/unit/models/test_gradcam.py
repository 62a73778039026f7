"""Where a text is: in the patches that raise its score, whatever else is asked at once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from blip_edge.errors import ArtifactError
from blip_edge.models import save_model
from blip_edge.models.attention import padding_mask
from blip_edge.models.features import extract_features
from blip_edge.models.gradcam import heatmaps
from blip_edge.models.heatmap import draw_heatmaps
from tests import tiny

BLIP = tiny.lively(tiny.config("BlipForImageTextRetrieval"))
PIXELS = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def words(rows: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(5, 60, (rows, 7), generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([7 - 2 * (row % 3) for row in range(rows)])
    return ids, (torch.arange(7)[None] < lengths[:, None]).long()


def test_maps_are_grids_whose_largest_value_is_one() -> None:
    maps = heatmaps(BLIP, PIXELS, *words(4))
    assert maps.shape == (4, 3, 3)
    assert maps.min() >= 0
    torch.testing.assert_close(maps.amax((1, 2)), torch.ones(4))
    assert len({tuple(row.flatten().tolist()) for row in maps}) == 4


def test_a_texts_map_does_not_depend_on_the_others() -> None:
    ids, mask = words(3)
    together = heatmaps(BLIP, PIXELS, ids, mask)
    for row in range(3):
        alone = heatmaps(BLIP, PIXELS, ids[row : row + 1], mask[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


def test_it_is_the_gradient_of_the_match_through_the_shares() -> None:
    """Against the formula, the first layer of two written out with plain attention."""
    ids, mask = words(1)
    encoder, length = BLIP.encoder, int(mask.sum())
    first, second = encoder.blocks
    tokens = BLIP.image_tokens(PIXELS).detach()
    x, _ = first.attention(encoder.embeddings(ids, 0), padding_mask(mask), None)
    look = first.crossattention
    q, k, v = look.self.query(x), look.self.key(tokens), look.self.value(tokens)
    q, k, v = (part.unflatten(-1, (4, 4)).transpose(1, 2) for part in (q, k, v))
    shares = (q @ k.transpose(2, 3) / 2.0).softmax(-1)
    x = look.output((shares @ v).transpose(1, 2).flatten(2), x)
    x = first.output(torch.nn.functional.gelu(first.intermediate.dense(x)), x)
    x, _ = second(x, padding_mask(mask), encoder.cross(tokens)[1], None)
    (gradient,) = torch.autograd.grad(BLIP.itm_head(x[:, 0])[0, 1], shares)
    cam = (gradient.clamp(min=0) * shares).mean(1)[0]  # (T, N)
    want = cam[1 : length - 1].mean(0)[1:].detach()
    got = heatmaps(BLIP, PIXELS, ids, mask)[0].flatten()
    torch.testing.assert_close(got, want / want.max())


def test_frozen_weights_do_not_matter() -> None:
    want = heatmaps(BLIP, PIXELS, *words(2))
    frozen = tiny.lively(tiny.config("BlipForImageTextRetrieval")).requires_grad_(False)
    assert torch.equal(heatmaps(frozen, PIXELS, *words(2)), want)


def test_the_picture_shows_a_panel_for_each_text(tmp_path: Path) -> None:
    texts = ["a red circle", "a red circle", "the blue square under a green circle"]
    save_model(tmp_path, tiny.model(texts * 9, "BlipForImageTextRetrieval"))
    pixels = np.random.default_rng(0).integers(0, 255, (30, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    drawn = draw_heatmaps(tmp_path, tmp_path / "picture.png", texts, tmp_path / "out" / "where.png")
    with Image.open(drawn) as panel:
        assert panel.width > 3 * panel.height  # four panels, each twice as wide as high
    with pytest.raises(ArtifactError, match="--force"):
        draw_heatmaps(tmp_path, tmp_path / "picture.png", texts, drawn)


def test_a_captioner_has_no_map(tmp_path: Path) -> None:
    save_model(tmp_path, tiny.model(["a red circle"] * 9))
    Image.new("RGB", (9, 9)).save(tmp_path / "picture.png")
    with pytest.raises(ArtifactError, match="does not match"):
        draw_heatmaps(tmp_path, tmp_path / "picture.png", ["red"], tmp_path / "where.png")


@torch.no_grad()
def test_features_are_those_of_the_parts() -> None:
    ids, mask = words(1)
    found = extract_features(BLIP, PIXELS, ids, mask, enc=4)
    assert found.image_tokens.shape == (1, 10, 32)
    assert found.text_tokens.shape == found.multimodal_tokens.shape == (1, 7, 16)
    torch.testing.assert_close(found.text_embeds, BLIP.embed_text(ids, mask))
    torch.testing.assert_close(found.image_embeds, BLIP.embed_image(found.image_tokens))
    ids[:, 0] = 4
    logits = BLIP.itm_logits(ids, mask, BLIP.encoder.cross(found.image_tokens))
    torch.testing.assert_close(BLIP.itm_head(found.multimodal_tokens[:, 0]), logits)
