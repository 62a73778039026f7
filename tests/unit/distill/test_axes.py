"""Every weight is known, and each of its axes is as long as what lies along it."""

from dataclasses import replace

import pytest

from blip_edge.distill.axes import axes_of, layer_of, reads
from blip_edge.models import Blip, BlipConfig
from blip_edge.models.config import Architecture
from tests.unit.distill import sizes


def length(config: BlipConfig, axis: str) -> int:
    """How many units lie along an axis, by the config alone."""
    vision, text = config.vision_config, config.text_config
    whole = {
        "vision": vision.hidden_size,
        "text": text.hidden_size,
        "text.twice": 2 * text.hidden_size,
        "embed": config.image_text_hidden_size,
    }
    if axis in whole:
        return whole[axis]
    tower, number, kind = axis.split(".")
    sizes = vision if tower == "vision" else text
    counts = {
        "heads": sizes.heads[int(number)] * sizes.head_width,
        "qkv": 3 * sizes.heads[int(number)] * sizes.head_width,
        "cross_heads": text.cross_heads[int(number)] * text.head_width,
        "neurons": sizes.ffn_widths[int(number)],
    }
    return counts[kind]


@pytest.mark.parametrize("architecture", sizes.ARCHITECTURE)
def test_every_axis_is_as_long_as_its_units(architecture: Architecture) -> None:
    config = sizes.config(architecture)
    state = Blip(config).state_dict()
    for name, tensor in state.items():
        axes = axes_of(config, name)
        assert len(axes) == tensor.ndim, name
        for size, axis in zip(tensor.shape, axes, strict=True):
            assert axis is None or size == length(config, axis), f"{name}: {axis}"


@pytest.mark.parametrize("architecture", sizes.ARCHITECTURE)
def test_what_is_as_wide_as_a_stream_runs_over_it(architecture: Architecture) -> None:
    """No axis of a telling length was forgotten: all these sizes differ from each other."""
    config = sizes.config(
        architecture,
        vision={"hidden_size": 28, "intermediate_size": 52},
        text={"hidden_size": 12, "encoder_hidden_size": 28, "intermediate_size": 36},
    )
    config = replace(config, image_text_hidden_size=11)
    telling = {28, 84, 52, 12, 24, 36, 11}
    for name, tensor in Blip(config).state_dict().items():
        for size, axis in zip(tensor.shape, axes_of(config, name), strict=True):
            assert (axis is None) == (size not in telling), f"{name}: {size} {axis}"


@pytest.mark.parametrize("architecture", sizes.ARCHITECTURE)
def test_every_unit_is_read_by_somebody(architecture: Architecture) -> None:
    config = sizes.config(architecture)
    read = {reads(name, axes_of(config, name)) for name, _ in Blip(config).named_parameters()} - {
        None,
        "text.twice",
    }
    kinds = {"vision": ("heads", "neurons"), "text": ("heads", "cross_heads", "neurons")}
    every = {f"{t}.{i}.{kind}" for t in kinds for i in range(3) for kind in kinds[t]}
    assert read == {"vision", "text"} | every


def test_layers_are_told_by_their_names() -> None:
    assert layer_of("vision_model.encoder.layers.7.mlp.fc1.bias") == ("vision", 7)
    assert layer_of("text_encoder.encoder.layer.0.output.dense.bias") == ("text", 0)
    assert layer_of("text_decoder.bert.encoder.layer.11.output.dense.bias") == ("text", 11)
    assert layer_of("vision_model.post_layernorm.weight") is None


def test_a_weight_that_nobody_knows_is_not_passed_over() -> None:
    with pytest.raises(AssertionError, match=r"vision_model\.register_tokens"):
        axes_of(sizes.config(), "vision_model.register_tokens")
