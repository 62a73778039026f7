"""What a model costs, by its sizes: against what is built, and against layers that are stubs."""

from collections.abc import Iterator
from dataclasses import astuple, replace
from math import prod
from typing import Any

import pytest

from blip_edge.distill import meters
from blip_edge.distill.engine_layers import Attention, FeedForward, Layer, Linear, Look
from blip_edge.distill.meters import meter_of
from blip_edge.distill.ranking import choose
from blip_edge.distill.surgery import kept_config
from blip_edge.models import Blip, BlipConfig, count_parameters
from blip_edge.models.config import Architecture
from tests.unit.distill import sizes
from tests.unit.distill.test_ranking import alike


def _size(layer: Layer) -> float:
    return float(prod(astuple(layer)))


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Layer]]:
    """Every layer takes a second a million of its sizes' product, and is listed."""
    asked: list[Layer] = []

    def seconds(layer: Layer) -> float:
        asked.append(layer)
        return _size(layer) / 1e6

    def forget() -> None:
        for measured in (meters._run, meters._call):
            measured.cache_clear()

    monkeypatch.setattr(meters, "seconds_of", seconds)
    forget()
    yield asked
    forget()


@pytest.mark.parametrize("architecture", sizes.ARCHITECTURE)
def test_parameters_are_those_of_the_network(architecture: Architecture) -> None:
    config = sizes.config(architecture)
    assert meter_of("parameters")(config) == count_parameters(Blip(config))


@pytest.mark.parametrize("architecture", sizes.ARCHITECTURE)
@pytest.mark.parametrize("per", ["parameters", "macs", "latency"])
def test_whatever_is_cut_costs_less(
    layers: list[Layer], architecture: Architecture, per: Any
) -> None:
    config, meter = sizes.config(architecture), meter_of(per)
    whole = meter(config)
    vision, text = config.vision_config, config.text_config
    wide: list[Any] = [{"head_dim": sizes.head_width} for sizes in (vision, text)]
    smaller: list[BlipConfig] = [
        replace(config, vision_config=replace(vision, **wide[0], num_attention_heads=(4, 3, 4))),
        replace(config, vision_config=replace(vision, intermediate_size=(48, 48, 40))),
        replace(config, vision_config=replace(vision, num_hidden_layers=2)),
        replace(config, text_config=replace(text, **wide[1], num_attention_heads=(4, 3, 4))),
        replace(config, text_config=replace(text, cross_attention_heads=(4, 3, 4))),
        replace(config, text_config=replace(text, intermediate_size=(32, 40, 40))),
        replace(config, text_config=replace(text, num_hidden_layers=2)),
        replace(config, text_config=replace(text, **wide[1], hidden_size=12)),
        replace(
            config,
            vision_config=replace(vision, **wide[0], hidden_size=24),
            text_config=replace(text, encoder_hidden_size=24),
        ),
    ]
    assert all(meter(one) < whole for one in smaller)
    if per != "parameters":
        merged = replace(config, vision_config=replace(vision, tokens_kept=(8, 6, 5)))
        assert meter(merged) < whole


def test_latency_is_the_sum_of_the_layers_of_a_caption(layers: list[Layer]) -> None:
    """A captioner's, written out: 10 image tokens, 16 words after a prompt of 4, two beams."""
    meter = meter_of("latency", beams=2)
    config = sizes.config(
        vision={"num_hidden_layers": 1, "tokens_kept": (7,)}, text={"num_hidden_layers": 1}
    )
    vision, text = config.vision_config, config.text_config
    patches = Linear(10, 3 * vision.patch_size**2, 32)
    image: list[Layer] = [patches, Attention(1, 10, 32, 4, 8, 10), FeedForward(7, 32, 48)]
    once: list[Layer] = [Linear(7, 32, 16)] * 2
    word: list[Layer] = [
        Attention(2, 1, 16, 4, 4, 20),
        Look(2, 1, 16, 4, 4, 7),
        FeedForward(2, 16, 40),
    ]
    word += [Linear(2, 16, 16 + text.vocab_size)]
    expected = sum(_size(one) - 1 for one in [*image, *once, *16 * word]) / 1e6
    assert meter(config) == pytest.approx(expected)
    assert len(layers) == len(set(layers)), "each is measured once"


def test_an_answer_looks_at_the_question(layers: list[Layer]) -> None:
    assert meter_of("latency")(sizes.config("BlipForQuestionAnswering")) > 0
    looks = {(one.rows, one.tokens) for one in layers if isinstance(one, Look)}
    assert looks == {(20, 10), (1, 20)}


def test_a_match_reads_its_text_alone_and_with_the_picture(layers: list[Layer]) -> None:
    config = sizes.config(
        "BlipForImageTextRetrieval", vision={"num_hidden_layers": 1}, text={"num_hidden_layers": 1}
    )
    patches = Linear(10, 3 * config.vision_config.patch_size**2, 32)
    image: list[Layer] = [patches, Attention(1, 10, 32, 4, 8, 10), FeedForward(10, 32, 48)]
    read: list[Layer] = [Attention(1, 20, 16, 4, 4, 20), FeedForward(20, 16, 40)]
    look: list[Layer] = [*[Linear(10, 32, 16)] * 2, Look(1, 20, 16, 4, 4, 10)]
    expected = sum(_size(one) - 1 for one in [*image, *look, *2 * read]) / 1e6
    assert meter_of("latency")(config) == pytest.approx(expected)


def test_no_layer_takes_less_than_nothing(
    layers: list[Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "seconds_of", lambda _: 1e-9)
    assert meter_of("latency")(sizes.config()) > 0


def test_what_is_slow_goes_first(layers: list[Layer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one tower's layers take long, it is that tower which is cut."""

    def seconds(layer: Layer) -> float:
        slow = 10 in astuple(layer) or 32 in astuple(layer)
        return _size(layer) / 1e6 * (50 if slow else 1)

    monkeypatch.setattr(meters, "seconds_of", seconds)
    config, meter = sizes.config(), meter_of("latency")
    keep = choose(config, alike(config), meter, meter(config) * 0.6, widths=False)
    got = kept_config(config, keep)
    assert got.text_config.ffn_widths == (40, 40, 40)
    assert got.text_config.heads == (4, 4, 4)
    assert sum(got.vision_config.heads) < 12


def test_where_operators_take_the_time_whole_layers_go(
    layers: list[Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads and neurons that save nothing stay, in the layers that stay."""
    monkeypatch.setattr(meters, "seconds_of", lambda layer: 1.0 if layer != Linear(1, 1, 1) else 0)
    config, meter = sizes.config(), meter_of("latency")
    got = kept_config(
        config, choose(config, alike(config), meter, meter(config) * 0.5, widths=False)
    )
    vision, text = got.vision_config, got.text_config
    assert vision.num_hidden_layers + text.num_hidden_layers < 6
    assert set(vision.heads) == set(text.heads) == {4}
    assert set(text.ffn_widths) == {40}
