"""What a student starts from: its teacher's layers, channels, patches and positions."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blip_edge.distill.importance import Importance
from blip_edge.distill.student import inherit, resize_patches
from blip_edge.distill.surgery import Keep, LayerKeep, cut
from blip_edge.errors import UsageError
from blip_edge.models import Blip, BlipConfig
from blip_edge.models.config import Architecture
from blip_edge.models.student import StudentSizes, student_config
from blip_edge.models.weighing import parameters
from tests import tiny
from tests.unit.distill import said, sizes

# Float32, and other kernels for other sizes.
CLOSE = 1e-4


def importance(config: BlipConfig, seed: int = 0) -> Importance:
    """Anything, for all units of three layers a tower."""
    torch.manual_seed(seed)
    vision, text = config.vision_config, config.text_config
    scores = {"vision": torch.rand(vision.hidden_size), "text": torch.rand(text.hidden_size)}
    for number in range(3):
        for tower, kind, count in (
            ("vision", "heads", vision.heads[number]),
            ("vision", "neurons", vision.ffn_widths[number]),
            ("text", "heads", text.heads[number]),
            ("text", "cross_heads", text.cross_heads[number]),
            ("text", "neurons", text.ffn_widths[number]),
        ):
            scores[f"{tower}.{number}.{kind}"] = torch.rand(count)
    return Importance(scores)


def student(
    teacher: Blip, found: Importance | None = None, layers: str = "last", **wanted: Any
) -> tuple[Blip, Keep]:
    config = student_config(teacher.config, StudentSizes(**wanted))
    how = found or importance(teacher.config)
    return inherit(teacher, config, how, layers=layers)  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", sizes.ARCHITECTURE)
def test_a_student_of_its_teachers_sizes_is_its_teacher(architecture: Architecture) -> None:
    teacher = tiny.lively(sizes.config(architecture))
    copy, keep = student(teacher)
    assert parameters(copy.config) == parameters(teacher.config)
    assert copy.config.model_type == teacher.config.model_type
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(copy.state_dict()[name], tensor), name
    mine = {parameter.data_ptr() for parameter in teacher.parameters()}
    assert not mine & {parameter.data_ptr() for parameter in copy.parameters()}
    assert keep.vision_channels is keep.text_channels is keep.embed is None


@pytest.mark.parametrize("architecture", sizes.ARCHITECTURE)
def test_a_student_is_what_its_sizes_say(architecture: Architecture) -> None:
    teacher = tiny.lively(sizes.config(architecture))
    wanted: dict[str, Any] = {
        "vision_layers": 2,
        "vision_width": 24,
        "vision_neurons": 16,
        "text_layers": 1,
        "text_width": 12,
        "text_heads": 2,
        "text_neurons": 8,
        "embed_dim": 4,
        "image_size": 16,
    }
    config = student_config(teacher.config, StudentSizes(**wanted))
    small, keep = inherit(teacher, config, importance(teacher.config))
    assert small.config == config
    assert list(keep.vision) == [0, 2] and list(keep.text) == [2]
    assert not small.training
    pixels = torch.randn(2, 3, 16, 16)
    assert small.vision_model(pixels).shape == (2, 5, 24)


def test_what_matters_most_is_inherited() -> None:
    teacher = tiny.lively(sizes.config())
    found = importance(teacher.config)
    small, keep = student(
        teacher, found, vision_width=16, vision_neurons=8, text_heads=1, text_neurons=8
    )
    kinds = {"vision": ("heads", "neurons"), "text": ("heads", "cross_heads", "neurons")}
    for tower in ("vision", "text"):
        for number, layer in getattr(keep, tower).items():
            for kind in kinds[tower]:
                kept, scores = getattr(layer, kind), found.scores[f"{tower}.{number}.{kind}"]
                assert kept == sorted(scores.topk(len(kept)).indices.tolist())
    assert keep.vision_channels == sorted(found.scores["vision"].topk(16).indices.tolist())
    assert keep.text_channels is None
    theirs = teacher.vision_model.embeddings.class_embedding
    mine = small.vision_model.embeddings.class_embedding
    assert torch.equal(mine, theirs[..., keep.vision_channels])


def test_important_layers_stay_in_their_order() -> None:
    teacher = tiny.lively(sizes.config())
    found = importance(teacher.config)
    for number, weight in enumerate((9.0, 1.0, 5.0)):
        for tower in ("vision", "text"):
            found.scores[f"{tower}.{number}.heads"] += weight * 100
    _, keep = student(teacher, found, "important", vision_layers=2, text_layers=1)
    assert (list(keep.vision), list(keep.text)) == ([0, 2], [0])
    _, keep = student(teacher, found, "last", vision_layers=1, text_layers=2)
    assert (list(keep.vision), list(keep.text)) == ([2], [0, 2])


def test_the_shared_space_keeps_its_leading_axes() -> None:
    teacher = tiny.lively(sizes.config("BlipForImageTextRetrieval"))
    small, keep = student(teacher, embed_dim=3)
    assert keep.embed == [0, 1, 2]
    assert torch.equal(small.text_proj.weight, teacher.text_proj.weight[:3])


def conv(patch: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(patch, weight, stride=weight.shape[-1]).flatten(1)


def resized(pictures: Tensor, size: int) -> Tensor:
    return F.interpolate(pictures, size=(size, size), mode="bicubic", align_corners=False)


@pytest.mark.parametrize("size", [8, 12, 16, 24])
def test_larger_patches_say_the_same_of_any_picture_that_was_made_larger(size: int) -> None:
    weight, patches = torch.randn(5, 3, 8, 8).double(), torch.randn(4, 3, 8, 8).double()
    larger = resize_patches(weight.float(), size).double()
    assert larger.shape == (5, 3, size, size)
    expected = conv(patches, weight)
    torch.testing.assert_close(conv(resized(patches, size), larger), expected, rtol=0, atol=CLOSE)


def test_smaller_patches_say_the_same_of_a_plain_picture() -> None:
    weight = torch.randn(5, 3, 16, 16)
    plain = torch.tensor([0.3, -1.0, 0.7]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    half = conv(plain[..., :8, :8], resize_patches(weight, 8))
    torch.testing.assert_close(half, conv(plain, weight), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("size", [4, 6])
def test_smaller_patches_are_as_near_as_can_be(size: int) -> None:
    """The least squares over all pictures, against a solver's."""
    weight = torch.randn(2, 3, 8, 8)
    shrink = resized(torch.eye(64).view(64, 1, 8, 8), size).flatten(1)  # (64, size · size)
    best = torch.linalg.lstsq(shrink.double(), weight.flatten(2).flatten(0, 1).double().T)
    got = resize_patches(weight, size).flatten(2).flatten(0, 1)
    torch.testing.assert_close(got.double(), best.solution.T, rtol=0, atol=CLOSE)


def test_patches_and_pictures_of_half_the_size_see_a_plain_picture_as_before() -> None:
    teacher = tiny.lively(sizes.config())
    small, _ = student(teacher, patch_size=4, image_size=12)
    plain = torch.tensor([0.3, -1.0, 0.7]).view(1, 3, 1, 1)
    before = teacher.vision_model(plain.expand(1, 3, 24, 24))
    after = small.vision_model(plain.expand(1, 3, 12, 12))
    torch.testing.assert_close(after, before, rtol=0, atol=CLOSE)


def test_positions_of_a_smaller_picture_are_interpolated() -> None:
    teacher = tiny.lively(sizes.config())
    with torch.no_grad():  # a plane over the picture, which stays one
        rows = torch.arange(3.0).view(3, 1, 1).expand(3, 3, 32).reshape(1, 9, 32)
        teacher.vision_model.embeddings.position_embedding[:, 1:] = rows
    small, _ = student(teacher, image_size=8)
    positions = small.vision_model.embeddings.position_embedding
    assert positions.shape == (1, 2, 32)
    start = teacher.vision_model.embeddings.position_embedding[:, 0]
    assert torch.equal(positions[:, 0], start)
    torch.testing.assert_close(positions[:, 1], torch.ones(1, 32))
    text = "text_decoder.bert.embeddings.word_embeddings.weight"
    assert torch.equal(small.state_dict()[text], teacher.state_dict()[text])


def test_merged_tokens_are_merged_in_the_student_too() -> None:
    teacher = tiny.lively(sizes.config(vision={"tokens_kept": (8, 6, 5)}))
    small, keep = student(teacher, vision_layers=2)
    assert list(keep.vision) == [0, 2]
    assert small.config.vision_config.tokens_kept == (8, 5)
    expected = cut(teacher, keep)
    for one, other in zip(
        said.outputs(small.double()), said.outputs(expected.double()), strict=True
    ):
        assert torch.equal(one, other)


def test_a_student_with_more_than_its_teacher_is_refused() -> None:
    teacher = tiny.lively(sizes.config())
    config = replace(teacher.config, image_text_hidden_size=9)
    with pytest.raises(UsageError, match="embed_dim 9 is more than the teacher's 8"):
        inherit(teacher, config, importance(teacher.config))
    text = replace(teacher.config.text_config, num_attention_heads=5, head_dim=4)
    with pytest.raises(
        UsageError, match=r"text_heads of layer 0: .*5 of what its teacher has 4 of"
    ):
        inherit(teacher, replace(teacher.config, text_config=text), importance(teacher.config))


def test_a_pruned_teacher_hands_on_what_is_left_of_each_layer() -> None:
    whole = tiny.lively(sizes.config())
    everyone = {i: LayerKeep([0, 1, 2, 3], [], list(range(48))) for i in range(3)}
    vision = {**everyone, 1: LayerKeep([2], [], list(range(8)))}
    text = {i: LayerKeep([0, 1], [1, 2, 3], list(range(16 + 8 * i))) for i in range(3)}
    teacher = cut(whole, Keep(vision, text))
    small, keep = student(teacher, text_layers=2)
    assert small.config.vision_config.heads == (4, 1, 4)
    assert small.config.text_config.ffn_widths == (16, 32)
    assert keep.vision[1] == LayerKeep([0], [], list(range(8)))


def test_a_shared_tower_is_the_mean_of_the_teachers_two_and_is_cut_as_one() -> None:
    teacher = tiny.lively(sizes.config("BlipForQuestionAnswering"))
    config = student_config(teacher.config, StudentSizes(text_neurons=8, tie_encoder_decoder=True))
    small, keep = inherit(teacher, config, importance(teacher.config))
    mine, theirs = small.encoder.blocks[1], small.decoder.bert.blocks[1]
    assert mine.intermediate is theirs.intermediate and mine.output is theirs.output
    assert small.encoder.embeddings is small.decoder.bert.embeddings
    towers = (teacher.encoder, teacher.decoder.bert)
    neurons = keep.text[1].neurons
    expected = torch.stack([tower.blocks[1].intermediate.dense.weight for tower in towers]).mean(0)
    torch.testing.assert_close(mine.intermediate.dense.weight, expected[neurons])
    own = small.decoder.bert.blocks[1].attention.self.query.weight
    assert torch.equal(own, teacher.decoder.bert.blocks[1].attention.self.query.weight)

    smaller = cut(small, replace(keep, text={1: keep.text[1]._replace(neurons=[0, 2])}))
    assert smaller.config.tie_encoder_decoder
    assert smaller.encoder.blocks[0].output is smaller.decoder.bert.blocks[0].output
    assert smaller.encoder.blocks[0].intermediate.dense.out_features == 2
