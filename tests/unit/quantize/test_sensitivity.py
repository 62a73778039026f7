"""Signal to noise: by hand, and as a judge of layers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from blip_edge.data.dataset import Dataset
from blip_edge.models import Model
from blip_edge.models.quantized import Quantization, apply_quantization, quantizable_layers
from blip_edge.quantize.calibrate import Seen, decode, pick
from blip_edge.quantize.decide import decide
from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.quantize.sensitivity import Noise, layer_sqnr

FC2 = "vision_model.encoder.layers.1.mlp.fc2"
RECIPE = QuantizeRecipe(observer="min-max", sensitivity="sqnr", floor_db=0)


@pytest.fixture
def seen(data: Path, captioner: Model) -> list[Seen]:
    pixels = pick(Dataset.open(data), captioner.preprocess, samples=8, seed=0)
    return decode(captioner, pixels, batch=8)


def test_noise_by_hand_over_two_batches() -> None:
    noise = Noise()
    noise.add(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))  # 25 and 0.25
    assert noise.db == pytest.approx(20.0)
    noise.add(torch.tensor([0.0]), torch.tensor([1.5]))  # 25 and 2.5
    assert noise.db == pytest.approx(10.0)


def test_no_noise_and_no_signal_are_finite() -> None:
    silent, deaf = Noise(), Noise()
    silent.add(torch.ones(2), torch.ones(2))
    deaf.add(torch.zeros(2), torch.ones(2))
    assert (silent.db, deaf.db) == (200.0, -200.0)


def test_8_bit_layers_are_close_and_the_whole_model_too(captioner: Model, seen: list[Seen]) -> None:
    layers = decide(captioner, seen, RECIPE)
    assert all(20 < (layer.sqnr_db or 0) < 60 for layer in layers.values())
    pixels = torch.from_numpy(captioner.preprocess.normalise(seen[0].pixels))
    with torch.no_grad():
        want = captioner.blip.lm_logits(seen[0].input_ids, captioner.blip.vision_model(pixels))
        apply_quantization(captioner.blip, Quantization(mode="static", layers=layers))
        got = captioner.blip.lm_logits(seen[0].input_ids, captioner.blip.vision_model(pixels))
    noise = Noise()
    noise.add(want, got)
    assert 20 < noise.db < 60 and not torch.equal(got, want)


def test_an_outlier_in_a_layers_input_makes_it_the_worst(
    captioner: Model, seen: list[Seen]
) -> None:
    before = decide(captioner, seen, RECIPE)
    fc1 = quantizable_layers(captioner.blip)[FC2.replace("fc2", "fc1")]
    with torch.no_grad():
        fc1.bias[5] = 400.0  # one neuron always far out; what it says is then taken away
        fc2 = quantizable_layers(captioner.blip)[FC2]
        nn.init.zeros_(fc2.weight[:, 5])
    after = decide(captioner, seen, RECIPE)
    worst = min(after, key=lambda path: after[path].sqnr_db or 0.0)
    assert worst == FC2
    assert (after[FC2].sqnr_db or 0) < (before[FC2].sqnr_db or 0) - 10


def test_a_layer_is_measured_alone_and_float_ones_not_at_all(
    captioner: Model, seen: list[Seen]
) -> None:
    layers = decide(captioner, seen, RECIPE)
    alone = {path: layers[path].as_float("") if path != FC2 else layers[path] for path in layers}
    # Another layer's coarse steps must not show in this one's number.
    coarse = {p: replace(d, input_scale=5.0) if p != FC2 else d for p, d in layers.items()}
    assert set(layer_sqnr(captioner, seen, alone)) == {FC2}
    want = layers[FC2].sqnr_db
    for decisions in (alone, coarse):
        assert layer_sqnr(captioner, seen, decisions)[FC2] == pytest.approx(want, abs=0.01)
