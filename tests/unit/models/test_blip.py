"""The whole network: as large as published, with the parts that its purpose needs."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from blip_edge.models import Blip, build, count_parameters
from blip_edge.models.attention import padding_mask
from blip_edge.models.config import Architecture
from blip_edge.models.presets import Preset, preset
from tests import tiny

# Published totals are rounded to a tenth of a million.
ROUNDING = 0.1


def on_meta(name: Preset, architecture: Architecture, image_size: int = 384) -> Blip:
    """A network whose tensors have shapes and no contents."""
    with torch.device("meta"):
        return Blip(preset(name, architecture, image_size=image_size))


def millions(*modules: nn.Module) -> float:
    return sum(count_parameters(module) for module in modules) / 1e6


@pytest.mark.parametrize(
    ("name", "image_size", "published", "tokens"),
    [
        ("base", 224, 85.80, 197),
        ("base", 384, 86.09, 577),
        ("base", 480, 86.34, 901),
        ("large", 224, 303.30, 197),
        ("large", 384, 303.69, 577),
    ],
)
def test_the_image_tower_is_as_large_as_published(
    name: Preset, image_size: int, published: float, tokens: int
) -> None:
    tower = on_meta(name, "BlipForConditionalGeneration", image_size).vision_model
    assert millions(tower) == pytest.approx(published, abs=ROUNDING)
    assert tower.config.num_tokens == tokens


@pytest.mark.parametrize(
    ("name", "architecture", "image_size", "published"),
    [
        ("base", "BlipForConditionalGeneration", 384, 223.97),
        ("large", "BlipForConditionalGeneration", 384, 446.3),
        ("base", "BlipForImageTextRetrieval", 384, 223.7),
        ("base", "BlipForQuestionAnswering", 480, 361.5),
        ("base", "BlipForImagesAndTextClassification", 384, 259.4),
        # Sharing all but self-attention; without sharing it would be 361 M (paper, table 3).
        ("base", "BlipForPreTraining", 224, 252.4),
    ],
)
def test_a_model_is_as_large_as_published(
    name: Preset, architecture: Architecture, image_size: int, published: float
) -> None:
    blip = on_meta(name, architecture, image_size)
    assert millions(blip) == pytest.approx(published, abs=ROUNDING)


def test_fine_tuning_retrieval_holds_momentum_copies_of_the_encoders() -> None:
    blip = on_meta("base", "BlipForImageTextRetrieval")
    slow = (blip.vision_model, blip.encoder, blip.vision_proj, blip.text_proj)
    assert millions(blip, *slow) == pytest.approx(447.5, abs=ROUNDING)


def test_the_text_towers_parts_are_as_large_as_published() -> None:
    decoder = on_meta("base", "BlipForConditionalGeneration").decoder
    block = decoder.bert.blocks[0]
    assert millions(decoder.bert.embeddings) == pytest.approx(23.84, abs=ROUNDING)
    # BLIP's tables count projections and output with its LayerNorm.
    assert 12 * millions(block.attention) == pytest.approx(28.37, abs=ROUNDING)
    assert 12 * millions(block.crossattention) == pytest.approx(28.37, abs=ROUNDING)
    assert millions(decoder.cls) == pytest.approx(0.62, abs=ROUNDING)
    wide = on_meta("large", "BlipForConditionalGeneration").decoder.bert.blocks[0]
    assert 12 * millions(wide.crossattention) == pytest.approx(33.09, abs=ROUNDING)


@pytest.mark.parametrize(
    ("architecture", "generates", "encodes"),
    [
        ("BlipForConditionalGeneration", True, False),
        ("BlipForImageTextRetrieval", False, True),
        ("BlipForQuestionAnswering", True, True),
        ("BlipForPreTraining", True, True),
        ("BlipForImagesAndTextClassification", False, True),
    ],
)
def test_a_model_has_the_parts_that_it_is_for(
    architecture: Architecture, generates: bool, encodes: bool
) -> None:
    blip = build(tiny.config(architecture))
    assert (blip.text_decoder is not None) == generates
    assert (blip.text_encoder is not None) == encodes
    compares = architecture in ("BlipForImageTextRetrieval", "BlipForPreTraining")
    assert hasattr(blip, "itm_head") == hasattr(blip, "temp") == compares


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


def close(got: Tensor, want: Tensor) -> None:
    """Equal in float32, whatever the order of the sums."""
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def words(rows: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Right-padded ids of different lengths, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (rows, tokens), generator=generator)
    lengths = torch.tensor([tokens - 2 * (row % 3) for row in range(rows)])
    return ids, (torch.arange(tokens)[None] < lengths[:, None]).long()


def pictures(*sizes: int) -> Tensor:
    return torch.randn(*sizes, 3, 24, 24, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_clip_is_its_frames_one_after_another() -> None:
    blip = tiny.lively(tiny.config("BlipForImageTextRetrieval"))
    clips = pictures(2, 3)
    tokens = blip.image_tokens(clips)
    assert tokens.shape == (2, 3 * 10, 32)
    frames = [blip.image_tokens(clips[:, n]) for n in range(3)]
    torch.testing.assert_close(tokens, torch.cat(frames, dim=1))
    mean = torch.stack([blip.vision_proj(frame[:, 0]) for frame in frames]).mean(0)
    torch.testing.assert_close(
        blip.embed_image(tokens), torch.nn.functional.normalize(mean, dim=-1)
    )
    ids, mask = words(2, 6)
    together = blip.itm_logits(ids, mask, blip.encoder.cross(tokens))
    alone = blip.itm_logits(ids, mask, blip.encoder.cross(frames[0]))
    assert (together - alone).abs().max() > 1e-3


@torch.no_grad()
def test_a_pictures_texts_share_what_is_seen_of_it() -> None:
    blip = tiny.lively(tiny.config("BlipForImageTextRetrieval"))
    ids, mask = words(6, 7)
    tokens = blip.image_tokens(pictures(2))
    shared = blip.itm_logits(ids, mask, blip.encoder.cross(tokens))
    repeated = blip.encoder.cross(tokens.repeat_interleave(3, dim=0))
    close(shared, blip.itm_logits(ids, mask, repeated))
    picked = [layer.rows(torch.tensor([0, 0, 0, 1, 1, 1])) for layer in blip.encoder.cross(tokens)]
    close(shared, blip.itm_logits(ids, mask, picked))


@torch.no_grad()
def test_an_answer_does_not_read_its_questions_padding_unless_asked_to() -> None:
    blip = tiny.lively(tiny.config("BlipForQuestionAnswering"))
    ids, _ = words(1, 5)
    padded = torch.cat([ids, torch.randint(5, 60, (1, 3))], dim=1)
    mask = torch.tensor([[1] * 5 + [0] * 3])
    cross = blip.encoder.cross(blip.image_tokens(pictures(1)))
    answer = torch.randint(5, 60, (1, 4))

    def logits(ids: Tensor, mask: Tensor, *, reads_padding: bool) -> Tensor:
        states = blip.ground(ids, mask, cross)
        asked = blip.answer_cross(states, None if reads_padding else mask)
        out: Tensor = blip.decoder(answer, asked)[0]
        return out

    alone = logits(ids, torch.ones_like(ids), reads_padding=False)
    close(logits(padded, mask, reads_padding=False), alone)
    assert (logits(padded, mask, reads_padding=True) - alone).abs().max() > 1e-2


@torch.no_grad()
def test_the_answering_decoder_reads_states_as_wide_as_the_text_tower() -> None:
    blip = build(tiny.config("BlipForQuestionAnswering"))  # pictures 32 wide, texts 16
    assert blip.encoder.blocks[0].crossattention.self.key.in_features == 32
    assert blip.decoder.bert.blocks[0].crossattention.self.key.in_features == 16


def nlvr(layers: int, merge_from: int) -> Blip:
    sizes = tiny.config("BlipForImagesAndTextClassification")
    text = replace(sizes.text_config, num_hidden_layers=layers, merge_from_layer=merge_from)
    return tiny.lively(replace(sizes, text_config=text))


def test_layers_below_the_sixth_average_two_pictures_and_those_above_merge() -> None:
    merges = [layer.crossattention.output.merge_layer for layer in nlvr(8, 6).encoder.blocks]
    assert [merge is not None for merge in merges] == [False] * 6 + [True] * 2
    assert merges[6].weight.shape == (16, 32)


@torch.no_grad()
@pytest.mark.parametrize("merge_from", [0, 1, 9], ids=["merged", "mixed", "averaged"])
def test_two_pictures_are_seen_as_the_formula_says(merge_from: int) -> None:
    """Against the layer written out with plain attention, (softmax(q kᵀ / √K) v)."""
    blip = nlvr(2, merge_from)
    ids, mask = words(3, 7)
    left, right = blip.image_tokens(pictures(3)), blip.image_tokens(pictures(3) * 0.3 + 0.2)
    encoder = blip.encoder
    x = encoder.embeddings(ids, 0)
    for layer in encoder.blocks:
        x, _ = layer.attention(x, padding_mask(mask), None)
        attention, output = layer.crossattention, layer.crossattention.output
        seen = []
        for side, projections, dense in (
            (left, attention.self0, output.dense0),
            (right, attention.self1, output.dense1),
        ):
            q, k, v = projections.query(x), projections.key(side), projections.value(side)
            q, k, v = (part.unflatten(-1, (4, 4)).transpose(1, 2) for part in (q, k, v))
            shares = (q @ k.transpose(2, 3) / 2.0).softmax(-1)
            seen.append(dense((shares @ v).transpose(1, 2).flatten(2)))
        merge = output.merge_layer
        both = (seen[0] + seen[1]) / 2 if merge is None else merge(torch.cat(seen, dim=-1))
        x = output.LayerNorm(both + x)
        x = layer.output(torch.nn.functional.gelu(layer.intermediate.dense(x)), x)
    first, _, last = blip.cls_head
    want = last(torch.relu(first(x[:, 0])))
    got = blip.reason_logits(ids, mask, left, right)
    close(got, want)
    assert (blip.reason_logits(ids, mask, right, left) - want).abs().max() > 1e-2


@torch.no_grad()
def test_a_dialog_reads_the_caption_and_the_picture_but_no_padding() -> None:
    sizes = tiny.config("BlipForImageTextRetrieval")
    vision = replace(sizes.vision_config, hidden_size=16)
    text = replace(sizes.text_config, encoder_hidden_size=16)
    blip = tiny.lively(replace(sizes, vision_config=vision, text_config=text))
    tokens = blip.image_tokens(pictures(2))
    captions, captions_mask = words(2, 5, seed=4)
    ids, mask = words(6, 7)  # three answers to each of two dialogs
    got = blip.itm_logits(ids, mask, blip.dialog_cross(tokens, captions, captions_mask))
    for row in range(2):
        length = int(captions_mask[row].sum())
        caption = captions[row : row + 1, :length]
        hidden, _ = blip.encoder(caption)
        context = torch.cat([hidden, tokens[row : row + 1]], dim=1)
        some = slice(3 * row, 3 * row + 3)
        alone = blip.itm_logits(ids[some], mask[some], blip.encoder.cross(context))
        close(got[some], alone)


def test_drop_path_leaves_out_whole_branches_and_keeps_the_mean() -> None:
    sizes = tiny.config()
    vision = replace(sizes.vision_config, drop_path_rate=0.5)
    blip = tiny.lively(replace(sizes, vision_config=vision))
    first, last = blip.vision_model.blocks
    assert (first.drop_path, last.drop_path) == (0.0, 0.5)
    branch = torch.ones(4000, 2, 3)
    last.train()
    kept = last._dropped(branch)
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert all(len(picture.unique()) == 1 for picture in kept)
    assert kept.mean().item() == pytest.approx(1.0, abs=0.1)
    last.eval()
    assert torch.equal(last._dropped(branch), branch)
