"""What a network holds, told from its sizes, against the network itself."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from blip_edge.models import Blip, BlipConfig, TextConfig, VisionConfig, count_parameters
from blip_edge.models.config import ARCHITECTURES, Architecture
from blip_edge.models.presets import Preset, preset
from blip_edge.models.quantized import (
    LayerDecision,
    Quantization,
    apply_quantization,
    quantizable_layers,
    quantizable_tables,
    weight_bytes,
)
from blip_edge.models.weighing import Weights, parameters, weights
from blip_edge.models.weights import blank
from tests import tiny

EVERY = sorted(set(ARCHITECTURES.values()))


def uneven(architecture: Architecture) -> BlipConfig:
    """Layers unlike each other, and some that are left without heads or neurons."""
    vision = VisionConfig(
        image_size=32,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=(3, 1, 0),
        head_dim=8,
        intermediate_size=(5, 7, 0),
    )
    text = TextConfig(
        vocab_size=50,
        max_position_embeddings=20,
        hidden_size=16,
        encoder_hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=(2, 1, 0),
        cross_attention_heads=(1, 2, 0),
        head_dim=8,
        intermediate_size=(9, 3, 0),
        merge_from_layer=1,
    )
    return BlipConfig(vision_config=vision, text_config=text, architecture=architecture)


@pytest.mark.parametrize("architecture", EVERY)
@pytest.mark.parametrize("name", ["base", "large"])
def test_parameters_are_those_of_the_network(name: Preset, architecture: Architecture) -> None:
    config = preset(name, architecture, image_size=224)
    assert sum(parameters(config).values()) == count_parameters(blank(config))


@pytest.mark.parametrize("sizes", [uneven, tiny.config])
def test_what_encoder_and_decoder_share_counts_once(
    sizes: Callable[[Architecture], BlipConfig],
) -> None:
    apart = sizes("BlipForQuestionAnswering")
    tied = replace(apart, tie_encoder_decoder=True)
    assert sum(parameters(tied).values()) == count_parameters(blank(tied))
    assert sum(parameters(tied).values()) < sum(parameters(apart).values())


@pytest.mark.parametrize("architecture", EVERY)
def test_pruned_networks_are_counted_layer_by_layer(architecture: Architecture) -> None:
    config = uneven(architecture)
    assert sum(parameters(config).values()) == count_parameters(blank(config))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("architecture", EVERY)
@pytest.mark.parametrize("made", [tiny.config, uneven])
def test_bytes_are_those_of_float_and_of_8_bit_networks(
    made: Callable[[Architecture], BlipConfig], architecture: Architecture
) -> None:
    blip = Blip(made(architecture))
    whole = sum(weights(blip.config).values(), Weights())
    assert whole.bytes("fp32") == weight_bytes(blip)
    assert whole.bytes("fp16") == weight_bytes(blip) // 2
    int8 = LayerDecision(
        decision="int8", weight_bits=8, activation_bits=8, input_scale=0.1, input_zero_point=3
    )
    table = LayerDecision(decision="int8", weight_bits=8)
    layers = dict.fromkeys(quantizable_tables(blip), table)
    layers |= dict.fromkeys(quantizable_layers(blip), int8)
    apply_quantization(blip, Quantization(mode="static", layers=layers))
    assert whole.bytes("int8") == weight_bytes(blip)


def test_fewer_words_are_fewer_rows_of_table_and_head() -> None:
    base = preset("base")
    few = replace(base, text_config=replace(base.text_config, vocab_size=2_000))
    lost = sum(parameters(base).values()) - sum(parameters(few).values())
    assert lost == (30_524 - 2_000) * (768 + 1)
