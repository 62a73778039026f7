"""A cut model is the original with the lost heads and neurons silenced, exactly."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from blip_edge.distill.surgery import LayerKeep, cut, everything, last_of_each_block
from blip_edge.models import Blip, count_parameters
from blip_edge.models.config import Architecture
from tests import tiny

# Sums in float64 that leave out zeros.
EXACT = 1e-9


def double(architecture: Architecture = "BlipForConditionalGeneration") -> Blip:
    return tiny.lively(tiny.config(architecture)).double()


@torch.no_grad()
def outputs(blip: Blip) -> list[Tensor]:
    """Everything that the model computes for two pictures."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 3, 24, 24, generator=generator).double()
    ids = torch.randint(5, 60, (2, 6), generator=generator)
    tokens = blip.vision_model(pixels)
    found = [tokens]
    if blip.text_decoder is not None:
        found.append(blip.lm_logits(ids, tokens))
    if blip.text_encoder is not None:
        mask = torch.ones_like(ids)
        found += [
            blip.embed_text(ids, mask),
            blip.itm_logits(ids, mask, blip.encoder.cross(tokens)),
        ]
    return found


def gap(one: Blip, other: Blip) -> float:
    pairs = zip(outputs(one), outputs(other), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def smaller(blip: Blip, **changes: LayerKeep) -> Blip:
    """`blip` with another second layer in the named towers."""
    keep = everything(blip)
    towers = {name: {**getattr(keep, name), 1: layer} for name, layer in changes.items()}
    return cut(blip, replace(keep, **towers)).double()


@torch.no_grad()
def silence(reader: torch.nn.Linear, units: list[int], width: int = 1) -> None:
    for unit in units:
        reader.weight[:, unit * width : (unit + 1) * width] = 0


@pytest.mark.parametrize(
    "architecture",
    ["BlipForConditionalGeneration", "BlipForImageTextRetrieval", "BlipForPreTraining"],
)
def test_cutting_nothing_gives_the_original(architecture: Architecture) -> None:
    blip = double(architecture)
    copy = cut(blip, everything(blip)).double()
    for name, tensor in blip.state_dict().items():
        assert torch.equal(copy.state_dict()[name].double(), tensor.float().double()), name
    assert copy.config.model_type == blip.config.model_type
    mine = {parameter.data_ptr() for parameter in blip.parameters()}
    assert not mine & {parameter.data_ptr() for parameter in copy.parameters()}


ALL, NEURONS, WIDE = list(range(4)), list(range(40)), list(range(48))


def _vision_heads(blip: Blip) -> Blip:
    silence(blip.vision_model.blocks[1].self_attn.projection, [0, 2], 8)
    return smaller(blip, vision=LayerKeep([1, 3], [], WIDE))


def _vision_neurons(blip: Blip) -> Blip:
    silence(blip.vision_model.blocks[1].mlp.fc2, [0, 7, 47])
    return smaller(blip, vision=LayerKeep(ALL, [], [n for n in WIDE if n not in (0, 7, 47)]))


def _self_attention(blip: Blip) -> Blip:
    silence(blip.decoder.bert.blocks[1].attention.output.dense, [0, 3], 4)
    return smaller(blip, text=LayerKeep([1, 2], ALL, NEURONS))


def _cross_attention(blip: Blip) -> Blip:
    silence(blip.decoder.bert.blocks[1].crossattention.output.dense, [1, 2, 3], 4)
    return smaller(blip, text=LayerKeep(ALL, [0], NEURONS))


def _text_neurons(blip: Blip) -> Blip:
    silence(blip.decoder.bert.blocks[1].output.dense, [5, 6])
    return smaller(blip, text=LayerKeep(ALL, ALL, [n for n in NEURONS if n not in (5, 6)]))


CUTS = [_vision_heads, _vision_neurons, _self_attention, _cross_attention, _text_neurons]


@pytest.mark.parametrize("change", CUTS, ids=lambda change: str(change.__name__))
def test_a_cut_is_a_silence(change: Callable[[Blip], Blip]) -> None:
    original = tiny.lively(tiny.config())
    # The weights travel as float32; start from values that float32 holds.
    silenced = tiny.lively(tiny.config()).double()
    lost = change(silenced)
    assert gap(lost, silenced) < EXACT
    assert gap(original.double(), silenced) > 1e-2, "what was silenced did not matter anyway"
    assert count_parameters(lost) < count_parameters(original)


def test_a_cut_of_both_towers_at_once() -> None:
    blip = double()
    vision = blip.vision_model.blocks[1]
    text = blip.decoder.bert.blocks[1]
    silence(vision.self_attn.projection, [3], 8)
    silence(vision.mlp.fc2, list(range(24, 48)))
    silence(text.attention.output.dense, [0], 4)
    silence(text.crossattention.output.dense, [1, 3], 4)
    silence(text.output.dense, list(range(8)))
    lost = smaller(
        blip,
        vision=LayerKeep([0, 1, 2], [], list(range(24))),
        text=LayerKeep([1, 2, 3], [0, 2], list(range(8, 40))),
    )
    assert gap(lost, blip) < EXACT
    config = lost.config
    assert config.vision_config.num_attention_heads == (4, 3)
    assert config.text_config.cross_attention_heads == (4, 2)
    assert config.text_config.intermediate_size == (40, 32)
    assert config.model_type == "blip_edge"


def test_a_matcher_is_cut_like_a_captioner() -> None:
    """Its text tower lies under another name."""
    blip = double("BlipForImageTextRetrieval")
    silence(blip.encoder.blocks[1].crossattention.output.dense, [0], 4)
    assert gap(smaller(blip, text=LayerKeep(ALL, [1, 2, 3], NEURONS)), blip) < EXACT


def test_pretraining_stays_shared_after_a_cut() -> None:
    blip = double("BlipForPreTraining")
    for tower in (blip.encoder, blip.decoder.bert):
        silence(tower.blocks[1].attention.output.dense, [2], 4)
    lost = smaller(blip, text=LayerKeep([0, 1, 3], ALL, NEURONS))
    assert gap(lost, blip) < EXACT
    assert lost.encoder.blocks[1].output is lost.decoder.bert.blocks[1].output


def test_lost_layers_are_skipped() -> None:
    blip = double()
    keep = everything(blip)
    lost = cut(blip, replace(keep, vision={1: keep.vision[1]}, text={0: keep.text[0]})).double()
    assert lost.config.vision_config.num_hidden_layers == 1
    del blip.vision_model.encoder.layers[0]
    del blip.decoder.bert.encoder.layer[1]
    assert gap(lost, blip) < EXACT


def test_an_evenly_cut_model_says_one_number() -> None:
    blip = double()
    layer = LayerKeep([0, 1], [], list(range(8)))
    text = LayerKeep([0, 1], [2, 3], list(range(8)))
    keep = replace(everything(blip), vision=dict.fromkeys((0, 1), layer), text={0: text, 1: text})
    config = cut(blip, keep).config
    assert config.vision_config.num_attention_heads == 2
    assert config.text_config.cross_attention_heads == 2
    assert config.text_config.intermediate_size == 8
    assert config.text_config.head_width == 4, "a head is as wide as before"


@pytest.mark.parametrize(
    ("layers", "wanted", "expected"),
    [(12, 6, [1, 3, 5, 7, 9, 11]), (12, 12, list(range(12))), (12, 1, [11]), (5, 2, [1, 4])],
)
def test_students_take_the_last_layer_of_each_block(
    layers: int, wanted: int, expected: list[int]
) -> None:
    assert last_of_each_block(layers, wanted) == expected
