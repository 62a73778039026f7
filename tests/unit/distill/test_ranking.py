"""What is cut first: a target is met and hardly overshot, and something of everything stays."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.distill.importance import Importance
from blip_edge.distill.meters import Meter, meter_of
from blip_edge.distill.ranking import BLOCK, choose, choose_evenly
from blip_edge.distill.surgery import Keep, kept_config
from blip_edge.errors import UsageError
from blip_edge.models import BlipConfig
from blip_edge.models.config import Architecture
from tests.unit.distill import sizes

KINDS = {"vision": ("heads", "neurons"), "text": ("heads", "cross_heads", "neurons")}
SHARED: Any = {"deadline": None, "max_examples": 25}


def counts(config: BlipConfig) -> dict[str, int]:
    """How many units there are, by their labels."""
    found = {"vision": config.vision_config.hidden_size, "text": config.text_config.hidden_size}
    for number in range(config.vision_config.num_hidden_layers):
        found[f"vision.{number}.heads"] = config.vision_config.heads[number]
        found[f"vision.{number}.neurons"] = config.vision_config.ffn_widths[number]
    for number in range(config.text_config.num_hidden_layers):
        found[f"text.{number}.heads"] = config.text_config.heads[number]
        found[f"text.{number}.cross_heads"] = config.text_config.cross_heads[number]
        found[f"text.{number}.neurons"] = config.text_config.ffn_widths[number]
    return found


def random(config: BlipConfig, seed: int, power: float = 1.0) -> Importance:
    """Scores from 0 to 1, the more unlike each other the higher the power."""
    draw = torch.Generator().manual_seed(seed)
    made = {label: torch.rand(size, generator=draw) for label, size in counts(config).items()}
    return Importance({label: scores**power for label, scores in made.items()})


def alike(config: BlipConfig) -> Importance:
    return Importance({label: torch.ones(size) for label, size in counts(config).items()})


def kept(keep: Keep) -> dict[str, list[int]]:
    """Units by their labels, of layers that stay."""
    return {
        f"{tower}.{number}.{kind}": getattr(layer, kind)
        for tower, kinds in KINDS.items()
        for number, layer in getattr(keep, tower).items()
        for kind in kinds
    }


def dearest(config: BlipConfig, meter: Meter) -> float:
    """The most that one block can cost: a layer, or 8 channels of a tower."""
    whole = meter(config)
    found = []
    for tower in ("vision_config", "text_config"):
        sizes = getattr(config, tower)
        changes: dict[str, Any] = {"num_hidden_layers": sizes.num_hidden_layers - 1}
        found.append(meter(replace(config, **{tower: replace(sizes, **changes)})))
    narrow = [
        replace(
            config,
            vision_config=replace(config.vision_config, hidden_size=24, head_dim=8),
            text_config=replace(config.text_config, encoder_hidden_size=24),
        ),
        replace(config, text_config=replace(config.text_config, hidden_size=8, head_dim=4)),
    ]
    return whole - min(found + [meter(one) for one in narrow])


@settings(**SHARED)
@given(
    architecture=st.sampled_from(sizes.ARCHITECTURE),
    per=st.sampled_from(["parameters", "macs"]),
    share=st.floats(0.45, 1.0),
    seed=st.integers(0, 99),
    power=st.sampled_from([0.0, 1.0, 6.0]),
    widths=st.booleans(),
)
def test_a_target_is_met_and_not_overshot_by_more_than_a_block(
    architecture: Architecture, per: Any, share: float, seed: int, power: float, widths: bool
) -> None:
    config, meter = sizes.config(architecture), meter_of(per)
    importance, target = random(config, seed, power), share * meter(config)
    keep = choose(config, importance, meter, target, widths=widths)
    cost = meter(kept_config(config, keep))
    assert target - dearest(config, meter) <= cost <= target
    assert keep.vision and keep.text
    for label, units in kept(keep).items():
        there = counts(config)[label]
        assert units == sorted(set(units)) and units[-1] < there
        if label.endswith("neurons"):
            assert len(units) % BLOCK == 0
        # Of a kind in a layer what matters more stays.
        scores = importance.scores[label]
        lost = [i for i in range(there) if i not in units]
        if lost and label.endswith("heads"):
            assert scores[lost].max() <= scores[units].min()
    for channels in (keep.vision_channels, keep.text_channels):
        assert channels is None or (widths and len(channels) % BLOCK == 0 and channels)


def test_all_that_is_wanted_is_kept() -> None:
    config, meter = sizes.config(), meter_of("parameters")
    keep = choose(config, random(config, 1), meter, meter(config), widths=True)
    assert kept_config(config, keep) == replace(
        config,
        vision_config=replace(config.vision_config, head_dim=8),
        text_config=replace(config.text_config, head_dim=4, cross_attention_heads=4),
    )


def test_what_does_not_matter_goes_first() -> None:
    config, meter = sizes.config(), meter_of("parameters")
    importance = alike(config)
    dead = {
        "vision.0.heads": [2],
        "text.1.cross_heads": [0],
        "text.2.neurons": list(range(16, 24)),
        "vision": [1, 5, 9, 13, 17, 21, 25, 29],
    }
    for label, units in dead.items():
        importance.scores[label][units] = 0
    without = Importance(dict(importance.scores))
    keep = choose(config, without, meter, meter(config) * 0.80, widths=True)
    assert keep.vision_channels is not None
    assert not set(dead.pop("vision")) & set(keep.vision_channels)
    for label, units in dead.items():
        assert not set(units) & set(kept(keep).get(label, [])), label


def test_a_layer_that_does_nothing_is_gone() -> None:
    config, meter = sizes.config(), meter_of("parameters")
    importance = alike(config)
    for kind in KINDS["vision"]:
        importance.scores[f"vision.1.{kind}"] *= 1e-3
    keep = choose(config, importance, meter, meter(config) * 0.9, widths=False)
    assert list(keep.vision) == [0, 2]
    assert list(keep.text) == [0, 1, 2]


def dear_layers(config: BlipConfig) -> float:
    """A meter by which a layer costs as much as a thousand neurons."""
    layers = config.vision_config.num_hidden_layers + config.text_config.num_hidden_layers
    neurons = sum(config.vision_config.ffn_widths) + sum(config.text_config.ffn_widths)
    return float(1000 * layers + neurons)


def test_what_a_lost_layer_leaves_room_for_comes_back() -> None:
    """Neurons that matter little are not enough, and go first; with a layer they need not."""
    config, importance = sizes.config(), alike(sizes.config())
    for label in counts(config):
        if label.endswith("neurons"):
            importance.scores[label] *= 1e-3
    target = dear_layers(config) - 500
    got = kept_config(config, choose(config, importance, dear_layers, target, widths=False))
    assert got.vision_config.num_hidden_layers + got.text_config.num_hidden_layers == 5
    assert set(got.vision_config.ffn_widths) == {48}
    assert set(got.text_config.ffn_widths) == {40}


def test_layers_stay_where_a_few_neurons_are_enough() -> None:
    """For what a layer costs it matters less than they, but it is far more than has to go."""
    config = sizes.config()
    target = dear_layers(config) - 20
    got = kept_config(config, choose(config, alike(config), dear_layers, target, widths=False))
    assert got.vision_config.num_hidden_layers == got.text_config.num_hidden_layers == 3
    assert target - BLOCK < dear_layers(got) <= target


def test_floors_are_a_head_eight_neurons_and_a_layer() -> None:
    config, meter = sizes.config(), meter_of("parameters")
    least = sizes.config(
        vision={"num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 8}
        | {"intermediate_size": 8, "hidden_size": 8},
        text={"num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 4}
        | {"intermediate_size": 8, "hidden_size": 8, "encoder_hidden_size": 8},
    )
    for seed in range(3):
        keep = choose(config, random(config, seed), meter, meter(least), widths=True)
        got = kept_config(config, keep)
        assert (got.vision_config.heads, got.vision_config.ffn_widths) == ((1,), (8,))
        assert (got.text_config.heads, got.text_config.cross_heads) == ((1,), (1,))
        assert got.vision_config.hidden_size == got.text_config.hidden_size == 8
    with pytest.raises(UsageError, match=r"costs 1\.\d\d times what is wanted; raise keep"):
        choose(config, random(config, 0), meter, meter(least) - 1, widths=True)


@pytest.mark.parametrize("widths", [True, False])
def test_what_cannot_be_reached_is_said(widths: bool) -> None:
    config, meter = sizes.config(), meter_of("parameters")
    target = meter(config) * 0.01
    with pytest.raises(UsageError, match="raise keep") as caught:
        choose(config, alike(config), meter, target, widths=widths)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no even cut is small enough; raise keep") as caught:
        choose_evenly(config, alike(config), meter, target, widths=widths)
    assert ("widths=true" in str(caught.value)) == (not widths)


def dear(config: BlipConfig, tower: str) -> float:
    """A meter by which one tower's neurons cost a hundred times those of the other."""
    found = {"vision": sum(config.vision_config.ffn_widths)}
    found["text"] = sum(config.text_config.ffn_widths)
    return sum(count * (100 if name == tower else 1) for name, count in found.items())


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_what_is_dear_goes_before_what_is_cheap(tower: str) -> None:
    """All units matter alike, so it is the cost that decides."""
    config = sizes.config()

    def meter(config: BlipConfig) -> float:
        return dear(config, tower)

    importance = alike(config)
    for label in counts(config):  # whole layers stay, by what their heads do
        if label.endswith("heads"):
            importance.scores[label] *= 1e6
    keep = choose(config, importance, meter, meter(config) * 0.7, widths=False)
    got = kept_config(config, keep)
    other = {"vision": got.text_config, "text": got.vision_config}[tower]
    there = {"vision": config.text_config, "text": config.vision_config}[tower]
    assert other.ffn_widths == there.ffn_widths


@settings(deadline=None, max_examples=12)
@given(
    architecture=st.sampled_from(["BlipForConditionalGeneration", "BlipForImageTextRetrieval"]),
    per=st.sampled_from(["parameters", "macs"]),
    share=st.floats(0.3, 1.0),
    seed=st.integers(0, 99),
)
def test_an_even_cut_is_one_that_transformers_can_hold(
    architecture: Architecture, per: Any, share: float, seed: int
) -> None:
    config, meter = sizes.config(architecture), meter_of(per)
    importance, target = random(config, seed), share * meter(config)
    keep = choose_evenly(config, importance, meter, target, widths=True)
    got = kept_config(config, keep)
    assert meter(got) <= target
    assert got.model_type == "blip"
    for mine, theirs in (
        (got.vision_config, config.vision_config),
        (got.text_config, config.text_config),
    ):
        assert mine.num_hidden_layers == 3
        assert len(set(mine.heads)) == len(set(mine.ffn_widths)) == 1
        assert mine.ffn_widths[0] % BLOCK == 0
        # Towers get narrower together with what is in them.
        heads, neurons = mine.heads[0] / 4, mine.ffn_widths[0] / theirs.ffn_widths[0]
        assert abs(heads - neurons) <= 0.5 + BLOCK / 80


def test_an_even_cut_without_widths_is_of_neurons_alone() -> None:
    config, meter = sizes.config(), meter_of("parameters")
    importance = random(config, 3)
    keep = choose_evenly(config, importance, meter, meter(config) * 0.8, widths=False)
    got = kept_config(config, keep)
    assert got.model_type == "blip"
    assert got.vision_config.heads == got.text_config.cross_heads == (4, 4, 4)
    assert got.vision_config.ffn_widths[0] < 48 and got.text_config.ffn_widths[0] < 40
    for label, units in kept(keep).items():
        if label.endswith("neurons"):
            scores = importance.scores[label]
            assert units == sorted(scores.topk(len(units)).indices.tolist())


def test_an_even_cut_of_uneven_layers_leaves_them_alike() -> None:
    config = sizes.config(
        vision={"num_attention_heads": (4, 2, 3), "head_dim": 8, "intermediate_size": (48, 16, 40)},
        text={"cross_attention_heads": (4, 3, 4), "head_dim": 4},
    )
    meter = meter_of("parameters")
    keep = choose_evenly(config, random(config, 2), meter, meter(config) * 0.7, widths=True)
    got = kept_config(config, keep)
    assert len(set(got.vision_config.heads)) == len(set(got.vision_config.ffn_widths)) == 1
    assert got.text_config.heads == got.text_config.cross_heads
    assert meter(got) <= meter(config) * 0.7
