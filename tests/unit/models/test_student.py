"""A student's sizes: what it takes from its teacher, and what it is refused."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_edge.errors import UsageError
from blip_edge.models import BlipConfig
from blip_edge.models.config import ARCHITECTURES, Architecture
from blip_edge.models.presets import preset
from blip_edge.models.student import StudentSizes, last_of_each_block, student_config
from blip_edge.models.weighing import parameters
from blip_edge.models.weights import blank
from tests import tiny


def student(teacher: BlipConfig, **sizes: Any) -> BlipConfig:
    return student_config(teacher, StudentSizes(**sizes))


def pruned() -> BlipConfig:
    """A teacher whose three layers a tower are unlike each other, the first with no cross heads."""
    base = tiny.config("BlipForImagesAndTextClassification")
    return replace(
        base,
        vision_config=replace(
            base.vision_config,
            num_hidden_layers=3,
            num_attention_heads=(4, 2, 3),
            intermediate_size=(40, 30, 20),
            head_dim=8,
        ),
        text_config=replace(
            base.text_config,
            num_hidden_layers=3,
            num_attention_heads=(4, 1, 3),
            cross_attention_heads=(0, 2, 3),
            intermediate_size=(10, 20, 30),
            head_dim=4,
            merge_from_layer=2,
        ),
    )


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES.values())))
def test_a_student_of_no_sizes_is_its_teacher(architecture: Architecture) -> None:
    teacher = tiny.config(architecture)
    same = student(teacher)
    assert same.architecture == architecture
    assert parameters(same) == parameters(teacher)
    assert same.model_type == teacher.model_type
    assert blank(same).state_dict().keys() == blank(teacher).state_dict().keys()


def test_another_width_fills_the_tower_with_heads_of_the_teachers_width() -> None:
    small = student(preset("base"), vision_width=384, text_width=256)
    vision, text = small.vision_config, small.text_config
    assert (vision.num_attention_heads, vision.intermediate_size) == (6, 1536)
    assert (text.num_attention_heads, text.cross_heads[0], text.intermediate_size) == (4, 4, 1024)
    assert vision.head_width == text.head_width == 64
    assert text.encoder_hidden_size == 384
    assert small.model_type == "blip"  # the classes of transformers open it


def test_fewer_heads_and_neurons_are_what_was_asked_for() -> None:
    small = student(preset("base"), vision_heads=5, text_heads=3, text_neurons=100, embed_dim=32)
    assert small.vision_config.heads == (5,) * 12
    assert small.text_config.cross_heads == small.text_config.heads == (3,) * 12
    assert small.text_config.ffn_widths == (100,) * 12
    assert small.vision_config.ffn_widths == (3072,) * 12
    assert small.image_text_hidden_size == 32
    assert small.model_type == "blip_edge"


def test_layers_that_stay_keep_what_pruning_left_them() -> None:
    small = student(pruned(), vision_layers=2, text_layers=2)
    assert last_of_each_block(3, 2) == [0, 2]
    assert small.vision_config.heads == (4, 3)
    assert small.vision_config.ffn_widths == (40, 20)
    assert small.text_config.heads == (4, 3)
    assert small.text_config.cross_heads == (0, 3)
    assert small.text_config.ffn_widths == (10, 30)
    assert small.text_config.merge_from_layer == 1
    twins = [name for name in blank(small).state_dict() if "merge_layer.weight" in name]
    assert twins == ["text_encoder.encoder.layer.1.crossattention.output.merge_layer.weight"]


def test_as_large_a_share_of_image_tokens_is_merged() -> None:
    teacher = tiny.config()
    vision = replace(teacher.vision_config, tokens_kept=(8, 5))  # of 10
    teacher = replace(teacher, vision_config=vision)
    assert student(teacher).vision_config.tokens_kept == (8, 5)
    assert student(teacher, vision_layers=1).vision_config.tokens_kept == (6,)  # as one layer can
    coarse = student(teacher, image_size=16)
    assert coarse.vision_config.num_tokens == 5
    assert coarse.vision_config.tokens_kept == (3, 2)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"vision_layers": 13}, "vision_layers = 13, but the teacher has 12"),
        ({"text_layers": 13}, "text_layers = 13"),
        ({"vision_width": 832}, "vision_width = 832, but the teacher has 768"),
        ({"text_width": 832}, "text_width = 832"),
        ({"vision_heads": 13}, "vision_heads = 13"),
        ({"text_heads": 13}, "text_heads = 13"),
        ({"vision_neurons": 3073}, "vision_neurons = 3073, but the teacher has 3072"),
        ({"text_neurons": 3073}, "text_neurons = 3073"),
        ({"embed_dim": 257}, "embed_dim = 257, but the teacher has 256"),
        ({"patch_size": 8}, "patch_size = 8 makes 2305 image tokens, but the teacher has 577"),
        ({"image_size": 400}, "image_size = 400 makes 626"),
        ({"image_size": 250}, "image_size 250 is not a multiple of patch_size 16"),
        (
            {"vision_width": 100},
            "vision_width = 100 is no multiple of the teacher's head width, 64",
        ),
        ({"text_width": 100}, "text_width = 100 is no multiple"),
    ],
)
def test_what_is_larger_than_the_teacher_is_named(sizes: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        student(preset("base"), **sizes)
    assert "\n" not in str(caught.value)


def test_a_pruned_teacher_has_no_more_than_its_smallest_layer() -> None:
    with pytest.raises(UsageError, match="vision_heads = 3, but the teacher has 2"):
        student(pruned(), vision_heads=3)
    with pytest.raises(UsageError, match="text_heads = 1, but the teacher has 0"):
        student(pruned(), text_heads=1)  # in cross-attention
    with pytest.raises(UsageError, match="vision_neurons = 64, but the teacher has 20"):
        student(pruned(), vision_width=16)


def test_smaller_patches_of_smaller_pictures_are_no_more_tokens() -> None:
    small = student(preset("base"), patch_size=8, image_size=192)
    assert small.vision_config.num_tokens == 577
    assert student(preset("base"), patch_size=32).vision_config.num_tokens == 145


@pytest.mark.parametrize("key", [field.name for field in fields(StudentSizes)])
def test_no_size_is_negative(key: str) -> None:
    with pytest.raises(UsageError, match=f"{key} must not be negative, got -1"):
        StudentSizes(**{key: -1})  # type: ignore[arg-type]


@given(
    st.fixed_dictionaries(
        {
            "vision_layers": st.integers(0, 2),
            "vision_width": st.sampled_from([0, 8, 16, 24]),
            "vision_heads": st.integers(0, 2),
            "vision_neurons": st.integers(1, 48),
            "text_layers": st.integers(0, 2),
            "text_width": st.sampled_from([0, 4, 8, 12]),
            "text_heads": st.integers(0, 4),
            "text_neurons": st.integers(1, 40),
            "embed_dim": st.integers(0, 8),
            "image_size": st.sampled_from([0, 8, 16, 24]),
        }
    )
)
def test_a_student_is_never_larger_in_any_part(sizes: dict[str, Any]) -> None:
    teacher = tiny.config("BlipForPreTraining")
    small = student(teacher, **sizes)
    theirs = parameters(teacher)
    assert all(count <= theirs[part] for part, count in parameters(small).items())
    assert student(small) == small  # its own student without sizes


def test_a_student_with_one_text_tower_is_not_hugging_faces() -> None:
    tied = student(tiny.config("BlipForQuestionAnswering"), tie_encoder_decoder=True)
    assert tied.model_type == "blip_edge"
    assert BlipConfig.from_json(tied.to_json(), source="here") == tied
    assert student(tied).tie_encoder_decoder, "0 is always the teacher's"


def test_only_an_answering_student_has_two_towers_to_share() -> None:
    with pytest.raises(UsageError, match="tie_encoder_decoder is for models that answer"):
        student(tiny.config("BlipForImageTextRetrieval"), tie_encoder_decoder=True)
