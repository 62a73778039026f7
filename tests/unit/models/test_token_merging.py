"""Merged image tokens: the paper's steps in plain loops, and what must not change by merging."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import Blip, BlipConfig, VisionConfig, load_model, save_model
from blip_edge.models.config import Architecture
from blip_edge.models.heatmap import draw_heatmaps
from blip_edge.models.sdpa import attend
from blip_edge.models.token_merging import attention_bias, merge_tokens
from blip_edge.models.token_schedule import fewest_tokens, tokens_schedule
from blip_edge.models.vit import VisionModel
from tests import tiny

PICTURES = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(5))
WHOLE = tiny.config().vision_config


def merging(
    *kept: int, architecture: Architecture = "BlipForConditionalGeneration", **sizes: Any
) -> BlipConfig:
    config = tiny.config(architecture)
    vision = replace(config.vision_config, tokens_kept=kept or None, **sizes)
    return replace(config, vision_config=vision)


def blip(*kept: int, **sizes: Any) -> Blip:
    return tiny.lively(merging(*kept, **sizes))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def merged_by_hand(
    x: list[Tensor], sizes: list[float], keys: list[Tensor], merged: int
) -> tuple[list[Tensor], list[float]]:
    """Section 3 of the paper for one picture, one token after another."""
    sources = [n for n in range(2, len(x), 2)]  # every second one, the class token (0) apart
    targets = [n for n in range(1, len(x), 2)]
    likeness: dict[int, float] = {}
    partner: dict[int, int] = {}
    for source in sources:
        for target in targets:
            a, b = keys[source], keys[target]
            cosine = float(a @ b) / float(a.norm() * b.norm())
            if cosine > likeness.get(source, -2.0):
                likeness[source], partner[source] = cosine, target
    go = sorted(sources, key=lambda source: -likeness[source])[:merged]
    totals, sums = dict(enumerate(sizes)), {n: x[n] * sizes[n] for n in range(len(x))}
    for source in go:
        totals[partner[source]] += sizes[source]
        sums[partner[source]] = sums[partner[source]] + sums[source]
    left = [0, *[source for source in sources if source not in go], *targets]
    return [sums[n] / totals[n] for n in left], [totals[n] for n in left]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("tokens", "merged"), [(3, 1), (4, 1), (10, 1), (10, 3), (10, 4), (11, 5), (26, 7), (37, 18)]
)
def test_it_is_the_papers_matching(tokens: int, merged: int, known: bool) -> None:
    x, keys = drawn(2, tokens, 6), drawn(2, tokens, 5, seed=1)
    sizes = torch.randint(1, 9, (2, tokens, 1)).float() if known else None
    found, found_sizes = merge_tokens(x, sizes, keys, merged)
    assert found.shape == (2, tokens - merged, 6)
    for picture in range(2):
        own = [1.0] * tokens if sizes is None else sizes[picture, :, 0].tolist()
        want, want_sizes = merged_by_hand(list(x[picture]), own, list(keys[picture]), merged)
        torch.testing.assert_close(found[picture], torch.stack(want))
        assert found_sizes[picture, :, 0].tolist() == want_sizes


@given(st.integers(3, 60), st.integers(0, 2**20), st.data())
def test_no_patch_is_lost_and_the_class_token_stays(tokens: int, seed: int, data: Any) -> None:
    merged = data.draw(st.integers(1, (tokens - 1) // 2))
    x, sizes = drawn(1, tokens, 4, seed=seed), None
    while merged <= (x.shape[1] - 1) // 2:
        before = x
        x, sizes = merge_tokens(x, sizes, x, merged)
        assert sizes.sum() == tokens and sizes.min() >= 1 and sizes[0, 0, 0] == 1
        assert torch.equal(x[:, 0], before[:, 0])
        weighed = (x * sizes).sum(1)
    torch.testing.assert_close(weighed, drawn(1, tokens, 4, seed=seed).sum(1), rtol=1e-4, atol=1e-4)


def test_a_token_of_many_patches_draws_attention_as_all_of_them() -> None:
    q, k, v = drawn(2, 4, 7, 8), drawn(2, 4, 5, 8, seed=1), drawn(2, 4, 5, 8, seed=2)
    times = torch.tensor([1, 3, 1, 6, 2])
    every_k, every_v = (values.repeat_interleave(times, dim=2) for values in (k, v))
    want = attend(q, every_k, every_v, None, 0.0)
    bias = attention_bias(times.float()[None, :, None])
    torch.testing.assert_close(attend(q, k, v, bias.expand(2, -1, -1, -1), 0.0), want)


@torch.no_grad()
@pytest.mark.parametrize("kept", [(7, 4), (6, 4), (7, 7)])
def test_patches_that_are_all_alike_lose_nothing(kept: tuple[int, int]) -> None:
    """The mean of equal tokens is the token, and it weighs as much as they did."""
    whole, fewer = blip().vision_model, blip(*kept).vision_model
    for tower in (whole, fewer):
        tower.embeddings.position_embedding.zero_()
    picture = PICTURES[:1, :, :8, :8].tile(1, 1, 3, 3)
    want, found = whole(picture), fewer(picture)
    assert found.shape[1] == kept[-1]
    torch.testing.assert_close(found, want[:, : kept[-1]], rtol=1e-4, atol=1e-4)
    assert (fewer(PICTURES)[:, 0] - whole(PICTURES)[:, 0]).abs().max() > 1e-3


@torch.no_grad()
def test_each_layer_leaves_what_the_config_says() -> None:
    hidden: list[Tensor] = []
    model = blip(7, 5)
    tokens = model.vision_model(PICTURES, hidden)
    assert [layer.shape for layer in hidden] == [(3, 7, 32), (3, 5, 32)]
    assert tokens.shape == (3, model.config.vision_config.num_output_tokens, 32) == (3, 5, 32)


@torch.no_grad()
def test_a_batch_is_its_pictures_one_by_one() -> None:
    vit = blip(7, 5).vision_model
    alone = torch.cat([vit(picture[None]) for picture in PICTURES])
    torch.testing.assert_close(vit(PICTURES), alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kept", [(10, 10), tokens_schedule(10, 2, 1.0)])
def test_a_share_of_one_changes_nothing(kept: tuple[int, ...]) -> None:
    assert torch.equal(blip(*kept).vision_model(PICTURES), blip().vision_model(PICTURES))
    assert merging(*kept).model_type == "blip"


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_layers_without_heads_merge_what_looks_alike() -> None:
    vit = VisionModel(replace(WHOLE, tokens_kept=(8, 6), num_attention_heads=(0, 4), head_dim=8))
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert vit(PICTURES).shape == (3, 6, 32) and vit(PICTURES).isfinite().all()


def test_every_weight_and_pixel_learns_through_it() -> None:
    vit, pixels = blip(7, 5).vision_model, PICTURES.clone().requires_grad_()
    vit(pixels).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vit.parameters())
    assert pixels.grad is not None
    patches = pixels.grad.unflatten(2, (3, 8)).unflatten(4, (3, 8)).abs().sum((1, 3, 5))
    assert patches.min() > 0  # a merged patch is still seen


def test_half_precision_counts_patches_exactly() -> None:
    """bfloat16 has no 257; sizes stay as they are under autocast."""
    x = torch.ones(1, 1201, 4)
    with torch.autocast("cpu", torch.bfloat16):
        tokens, sizes = merge_tokens(x, None, x, 600)
        assert (tokens.dtype, sizes.dtype) == (torch.float32, torch.float32)
        assert sizes.sum() == 1201 and sizes.max() == 601
    vit = blip(7, 5).vision_model
    with torch.autocast("cpu", torch.bfloat16):
        vit(PICTURES).sum().backward()
    assert vit.embeddings.class_embedding.grad.isfinite().all()  # type: ignore[union-attr]


@torch.no_grad()
def test_a_clip_is_the_mean_of_its_merged_frames() -> None:
    model = blip(7, 5, architecture="BlipForImageTextRetrieval")
    clip = model.image_tokens(PICTURES[None])
    assert clip.shape == (1, 15, 32)
    frames = model.vision_proj(model.image_tokens(PICTURES)[:, 0]).mean(0, keepdim=True)
    want = torch.nn.functional.normalize(frames, dim=-1)
    torch.testing.assert_close(model.embed_image(clip), want, rtol=1e-4, atol=1e-4)


@given(st.integers(2, 1000), st.integers(1, 30), st.floats(0, 1, exclude_min=True))
def test_a_schedule_is_one_that_layers_can_keep(tokens: int, layers: int, share: float) -> None:
    schedule = tokens_schedule(tokens, layers, share)
    assert len(schedule) == layers
    for before, after in zip((tokens, *schedule), schedule, strict=False):
        assert max(2, fewest_tokens(before)) <= after <= before
    wanted, least = max(2, round(share * tokens)), tokens
    for _ in range(layers):
        least = fewest_tokens(least)
    assert schedule[-1] == max(wanted, least)


def test_schedules_by_hand() -> None:
    assert tokens_schedule(577, 12, 1.0) == (577,) * 12
    assert tokens_schedule(577, 4, 0.5) == (505, 433, 360, 288)
    assert tokens_schedule(577, 4, 0.1) == (447, 229, 115, 58)  # of 115 at least 58 stay
    assert tokens_schedule(10, 2, 0.2) == (6, 4)  # as few as two layers can leave
    assert tokens_schedule(577, 1, 1e-9) == (289,)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan"), float("inf")])
def test_shares_out_of_range_are_refused(share: float) -> None:
    with pytest.raises(UsageError, match=r"in \(0, 1\]"):
        tokens_schedule(577, 12, share)


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        ((7,), "lists 1 layers, the tower has 2"),
        ((), "lists 0 layers"),
        ((11, 7), "layer 0 gets 10 tokens and can leave 6 to 10 of them, not 11"),
        ((7, 8), "layer 1 gets 7 tokens and can leave 4 to 7 of them, not 8"),
        ((5, 5), "layer 0 gets 10 tokens"),
        ((7, 0), "not 0"),
        ((7.0, 5), "whole number"),
        ((True, 5), "whole number"),
        (7, "whole number"),
        ("75", "whole number"),
    ],
)
def test_schedules_that_no_tower_can_keep_are_refused(kept: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        replace(WHOLE, tokens_kept=kept)
    document = merging().to_json()
    document["vision_config"]["tokens_kept"] = list(kept) if isinstance(kept, tuple) else kept
    with pytest.raises(ArtifactError, match=f"dir/config.json.*{reason}"):
        BlipConfig.from_json(document, source="dir/config.json")


def test_a_config_comes_back_and_is_none_of_transformers() -> None:
    config = merging(7, 5)
    read = BlipConfig.from_json(json.loads(json.dumps(config.to_json())), source="x")
    assert read == config and read.model_type == "blip_edge"
    assert (read.vision_config.num_tokens, read.vision_config.num_output_tokens) == (10, 5)
    older = merging().to_json()
    del older["vision_config"]["tokens_kept"]
    assert BlipConfig.from_json(older, source="x") == merging()


def test_other_picture_sizes_merge_the_same_shares() -> None:
    vision = VisionConfig(image_size=384, tokens_kept=tokens_schedule(577, 12, 0.5))
    assert vision.resized(384) == vision
    for size, tokens in ((224, 197), (480, 901)):
        assert vision.resized(size).tokens_kept == pytest.approx(
            tokens_schedule(tokens, 12, 0.5), abs=1
        )
    steep = replace(WHOLE, tokens_kept=(6, 4))
    assert steep.resized(16).tokens_kept == (3, 2) and steep.resized(8).tokens_kept == (2, 2)
    assert WHOLE.resized(48) == replace(WHOLE, image_size=48)


@torch.no_grad()
def test_a_folder_holds_it(tmp_path: Path) -> None:
    model = tiny.model(["a red circle"] * 9)
    vision = replace(model.config.vision_config, tokens_kept=(7, 5))
    fewer = tiny.lively(replace(model.config, vision_config=vision))
    save_model(tmp_path, model.with_blip(fewer))
    again = load_model(tmp_path).blip
    assert torch.equal(again.vision_model(PICTURES), fewer.vision_model(PICTURES))


def test_a_merged_model_draws_no_heatmap(tmp_path: Path) -> None:
    model = tiny.model(["a red circle"] * 9, "BlipForImageTextRetrieval")
    vision = replace(model.config.vision_config, tokens_kept=(7, 5))
    fewer = tiny.lively(replace(model.config, vision_config=vision))
    save_model(tmp_path, model.with_blip(fewer))
    Image.new("RGB", (9, 9)).save(tmp_path / "picture.png")
    with pytest.raises(ArtifactError, match="merges its 9 patches to 4"):
        draw_heatmaps(tmp_path, tmp_path / "picture.png", ["red"], tmp_path / "where.png")
