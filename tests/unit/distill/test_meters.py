"""What a model costs, by its sizes: against what is built, and against products that are stubs."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from blip_edge.distill import meters
from blip_edge.distill.meters import meter_of
from blip_edge.distill.ranking import choose
from blip_edge.distill.surgery import kept_config
from blip_edge.models import Blip, BlipConfig, count_parameters
from blip_edge.models.config import Architecture
from tests.unit.distill import sizes
from tests.unit.distill.test_ranking import alike


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int, int]]]:
    """Every product takes a second a million multiplications, and is listed."""
    asked: list[tuple[int, int, int]] = []

    def seconds(rows: int, inputs: int, outputs: int) -> float:
        asked.append((rows, inputs, outputs))
        return rows * inputs * outputs / 1e6

    def forget() -> None:
        for measured in (meters._product, meters._call):
            measured.cache_clear()

    monkeypatch.setattr(meters, "product_seconds", seconds)
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
    products: list[Any], architecture: Architecture, per: Any
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


def test_latency_is_the_sum_of_the_layers_products(products: list[Any]) -> None:
    """A captioner's, written out: 10 image tokens, 16 words after a prompt of 4."""
    meter = meter_of("latency")
    config = sizes.config(
        vision={"num_hidden_layers": 1, "tokens_kept": (7,)}, text={"num_hidden_layers": 1}
    )
    call = 1 / 1e6
    image = [(10, 32, 96), (10, 32, 32), (10, 32, 48), (10, 48, 32), *[(10, 32, 10)] * 2]
    once = [(7, 32, 16)] * 2
    word = [(1, 16, 48), (1, 16, 16), (1, 16, 16), (1, 16, 16), *[(1, 16, 7)] * 2]
    word += [(1, 16, 40), (1, 40, 16)]
    expected = sum(a * b * c / 1e6 - call for a, b, c in image + once + 16 * word)
    assert meter(config) == pytest.approx(expected)
    assert len(products) == len(set(products)), "each product is measured once"


def test_no_product_takes_less_than_nothing(
    products: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "product_seconds", lambda *_: 1e-9)
    assert meter_of("latency")(sizes.config()) > 0


def test_what_is_slow_goes_first(products: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one tower's products take long, it is that tower which is cut."""

    def seconds(rows: int, inputs: int, outputs: int) -> float:
        vision = rows == 10 or 32 in (inputs, outputs)
        return rows * inputs * outputs / 1e6 * (50 if vision else 1)

    monkeypatch.setattr(meters, "product_seconds", seconds)
    config, meter = sizes.config(), meter_of("latency")
    keep = choose(config, alike(config), meter, meter(config) * 0.6, widths=False)
    got = kept_config(config, keep)
    assert got.text_config.ffn_widths == (40, 40, 40)
    assert got.text_config.heads == (4, 4, 4)
    assert sum(got.vision_config.heads) < 12
