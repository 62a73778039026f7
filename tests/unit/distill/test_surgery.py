"""A cut model is the original with the lost heads and neurons silenced, exactly."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.distill.surgery import Keep, LayerKeep, cut, everything, kept_config
from blip_edge.models import Blip, BlipConfig, count_parameters
from blip_edge.models.config import Architecture
from blip_edge.models.student import last_of_each_block
from blip_edge.models.weighing import parameters
from tests import tiny
from tests.unit.distill import said, sizes

# Sums in float64 that leave out zeros.
EXACT = 1e-9


def double(architecture: Architecture = "BlipForConditionalGeneration") -> Blip:
    return tiny.lively(tiny.config(architecture)).double()


def gap(one: Blip, other: Blip) -> float:
    pairs = zip(said.outputs(one), said.outputs(other), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def smaller(blip: Blip, **changes: LayerKeep) -> Blip:
    """`blip` with another second layer in the named towers."""
    keep = everything(blip)
    towers: dict[str, Any] = {
        name: {**getattr(keep, name), 1: layer} for name, layer in changes.items()
    }
    return cut(blip, replace(keep, **towers)).double()


@torch.no_grad()
def silence(reader: torch.nn.Linear, units: list[int], width: int = 1) -> None:
    for unit in units:
        reader.weight[:, unit * width : (unit + 1) * width] = 0


@pytest.mark.parametrize("architecture", sizes.ARCHITECTURE)
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


def towers_of(blip: Blip) -> list[Any]:
    towers = [blip.text_encoder, blip.text_decoder and blip.text_decoder.bert]
    return [tower for tower in towers if tower is not None]


@pytest.mark.parametrize("architecture", sizes.ARCHITECTURE)
def test_every_architecture_is_cut_like_a_captioner(architecture: Architecture) -> None:
    """Its text towers lie under other names, and a twin looks with two of everything."""
    original = tiny.lively(sizes.config(architecture)).double()
    blip = tiny.lively(sizes.config(architecture)).double()
    keep, lost = everything(blip), {"heads": [0, 3], "cross": [1], "neurons": [2, 5, 39]}
    silence(blip.vision_model.blocks[2].self_attn.projection, [1], 8)
    for tower in towers_of(blip):
        block = tower.blocks[1]
        silence(block.attention.output.dense, lost["heads"], 4)
        silence(block.output.dense, lost["neurons"])
        for name in ("dense", "dense0", "dense1"):
            if hasattr(block.crossattention.output, name):
                silence(getattr(block.crossattention.output, name), lost["cross"], 4)
    text = LayerKeep([1, 2], [0, 2, 3], [n for n in NEURONS if n not in lost["neurons"]])
    kept = replace(
        keep,
        vision={**keep.vision, 2: LayerKeep([0, 2, 3], [], WIDE)},
        text={**keep.text, 1: text},
    )
    smaller = cut(blip, kept).double()
    assert gap(smaller, blip) < EXACT
    assert gap(original, blip) > 1e-2
    assert smaller.config.text_config.cross_heads == (4, 3, 4)
    if architecture == "BlipForPreTraining":
        assert smaller.encoder.blocks[1].output is smaller.decoder.bert.blocks[1].output


@pytest.mark.parametrize("architecture", sizes.ARCHITECTURE)
@pytest.mark.parametrize(
    ("vision", "text"), [([1], [0]), ([0, 2], [1, 2]), ([0, 1, 2], [0, 2]), ([2], [2])]
)
def test_lost_layers_are_skipped(
    architecture: Architecture, vision: list[int], text: list[int]
) -> None:
    blip = tiny.lively(sizes.config(architecture)).double()
    keep = everything(blip)
    lost = cut(
        blip,
        replace(
            keep,
            vision={i: keep.vision[i] for i in vision},
            text={i: keep.text[i] for i in text},
        ),
    ).double()
    assert lost.config.vision_config.num_hidden_layers == len(vision)
    # A layer of a twin that merged still does, whatever its number is now.
    assert lost.config.text_config.merge_from_layer == (1 if 0 in text else 0)
    skip(blip, vision, text)
    assert gap(lost, blip) < EXACT


def skip(blip: Blip, vision: list[int], text: list[int]) -> None:
    """Go through these layers alone."""
    layers = blip.vision_model.encoder.layers
    blip.vision_model.encoder.layers = torch.nn.ModuleList(layers[i] for i in vision)
    for tower in towers_of(blip):
        tower.encoder.layer = torch.nn.ModuleList(tower.encoder.layer[i] for i in text)


def test_a_lost_layer_of_the_image_tower_is_one_whose_branches_are_silent() -> None:
    blip = tiny.lively(sizes.config()).double()
    block, keep = blip.vision_model.blocks[1], everything(blip)
    with torch.no_grad():
        for last in (block.self_attn.projection, block.mlp.fc2):
            last.weight.zero_()
            last.bias.zero_()
    lost = cut(blip, replace(keep, vision={i: keep.vision[i] for i in (0, 2)})).double()
    assert gap(lost, blip) < EXACT


class _Narrow(torch.nn.Module):
    """A LayerNorm that knows of some channels only, and says 0 in the others."""

    def __init__(self, norm: torch.nn.LayerNorm, kept: list[int]) -> None:
        super().__init__()
        self.norm, self.kept = norm, kept

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside, norm = x[..., self.kept], self.norm
        gap = inside - inside.mean(-1, keepdim=True)
        share = gap / (gap.square().mean(-1, keepdim=True) + norm.eps).sqrt()
        out = torch.zeros_like(x)
        out[..., self.kept] = share * norm.weight[self.kept] + norm.bias[self.kept]
        return out


def masked(blip: Blip, vision: list[int], text: list[int], embed: list[int]) -> Blip:
    """`blip` in which only these channels count, no tensor smaller than before."""
    for name, module in list(blip.named_modules(remove_duplicate=False)):
        if isinstance(module, torch.nn.LayerNorm):
            kept = vision if name.startswith("vision_model") else text
            blip.get_submodule(name.rpartition(".")[0]).register_module(
                name.rpartition(".")[2], _Narrow(module, kept)
            )
    # Outputs along a cut axis that go through no norm before they are read.
    unread = [("(vision|text)_proj", embed), (r"dense[01]|cls_head\.0", text)]
    with torch.no_grad():
        for name, module in blip.named_modules():
            for pattern, kept in unread:
                if isinstance(module, torch.nn.Linear) and re.search(f"({pattern})$", name):
                    lost = [i for i in range(module.out_features) if i not in kept]
                    module.weight[lost] = 0
                    module.bias[lost] = 0
    return blip


@pytest.mark.parametrize("architecture", sizes.ARCHITECTURE)
@pytest.mark.parametrize("tokens", [None, (9, 6, 5)])
def test_lost_channels_are_left_out_of_sums_and_norms(
    architecture: Architecture, tokens: tuple[int, ...] | None
) -> None:
    config = sizes.config(architecture, vision={"tokens_kept": tokens})
    vision = [i for i in range(32) if i not in (0, 9, 10, 31)]
    text, embed = [i for i in range(16) if i not in (3, 8, 15)], [0, 2, 3, 7]
    blip = tiny.lively(config).double()
    lost = cut(blip, replace(everything(blip), vision_channels=vision)).double()
    assert lost.config.vision_config.hidden_size == 28
    assert lost.config.text_config.encoder_hidden_size == 28
    every = list(range(16)), list(range(8))
    _same(lost, masked(tiny.lively(config).double(), vision, *every), vision, every[1])
    keep = replace(everything(blip), vision_channels=vision, text_channels=text, embed=embed)
    narrow = cut(blip, keep).double()
    assert (narrow.config.text_config.hidden_size, narrow.config.vision_config.heads[0]) == (13, 4)
    assert narrow.config.image_text_hidden_size == 4
    _same(narrow, masked(tiny.lively(config).double(), vision, text, embed), vision, embed)


def _same(lost: Blip, reference: Blip, vision: list[int], embed: list[int]) -> None:
    mine, theirs = said.outputs(lost), said.outputs(reference)
    theirs[0] = theirs[0][..., vision]
    for one, other in zip(mine, theirs, strict=True):
        if one.shape[-1] == len(embed) != other.shape[-1]:
            other = other[..., embed]
        torch.testing.assert_close(one, other, rtol=0, atol=EXACT)


def test_lost_layers_merge_no_tokens_and_the_others_as_many_as_before() -> None:
    blip = tiny.lively(sizes.config(vision={"tokens_kept": (8, 6, 5)})).double()
    keep = everything(blip)
    lost = cut(blip, replace(keep, vision={i: keep.vision[i] for i in (0, 2)})).double()
    assert lost.config.vision_config.tokens_kept == (8, 5)
    last = kept_config(blip.config, replace(keep, vision={2: keep.vision[2]}))
    assert last.vision_config.tokens_kept == (6,), "a layer merges no more than half"
    skip(blip, [0, 2], [0, 1, 2])
    blip.vision_model.blocks[1].merged = 3
    assert gap(lost, blip) < EXACT


def test_two_cuts_are_one() -> None:
    """What is kept of what was kept, in the numbers of the whole."""
    blip = tiny.lively(sizes.config("BlipForPreTraining"))
    keep = everything(blip)
    outer = Keep(
        vision={i: keep.vision[i] for i in (0, 2)},
        text={i: keep.text[i] for i in (1, 2)},
        vision_channels=list(range(4, 32)),
        embed=[1, 2, 5],
    )
    between = cut(blip, outer)
    rest = everything(between)
    inner = Keep(
        vision={1: rest.vision[1]},
        text=rest.text,
        vision_channels=[0, 3, 27],
        text_channels=[2, 7],
        embed=[0, 2],
    )
    both = inner.of(outer)
    assert list(both.vision) == [2] and list(both.text) == [1, 2]
    assert both.vision_channels == [4, 7, 31]
    assert both.text_channels == [2, 7]
    assert both.embed == [1, 5]
    twice, once = cut(between, inner).state_dict(), cut(blip, both).state_dict()
    assert all(torch.equal(twice[name], tensor) for name, tensor in once.items())


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_sizes_are_known_before_anything_is_cut(data: st.DataObject) -> None:
    blip = _PRETRAINED

    def some(count: int) -> list[int]:
        return sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1)))

    keep = Keep(
        vision={i: LayerKeep(some(4), [], some(48)) for i in some(3)},
        text={i: LayerKeep(some(4), some(4), some(40)) for i in some(3)},
        vision_channels=some(32),
        text_channels=some(16),
        embed=some(8),
    )
    config: BlipConfig = kept_config(blip.config, keep)
    smaller = cut(blip, keep)
    assert smaller.config == config
    assert count_parameters(smaller) == sum(parameters(config).values())
    assert all(tensor.isfinite().all() for tensor in said.outputs(smaller.double()))


_PRETRAINED = tiny.lively(sizes.config("BlipForPreTraining"))


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
