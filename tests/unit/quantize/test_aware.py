"""Quantization-aware training: the very numbers of 8 bits forward, straight through backward."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blip_edge.artifact import read_provenance
from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import Model
from blip_edge.models.folder import load_model, save_model
from blip_edge.models.quantized import (
    HEAD,
    LayerDecision,
    Quantization,
    apply_quantization,
    quantizable_layers,
    quantizable_tables,
    quantize_weight,
)
from blip_edge.quantize import QuantizeRecipe, quantize
from blip_edge.quantize.aware import trained_rounded
from blip_edge.quantize.calibrate import Seen, decode, pick
from blip_edge.quantize.decide import ranged
from blip_edge.quantize.fake import fake_quantized, with_weights_of
from blip_edge.quantize.sensitivity import Noise
from blip_edge.recipe import load
from blip_edge.runtime.engine import Task
from tests.unit.quantize.kinds import trained

FC1 = "vision_model.encoder.layers.0.mlp.fc1"
RECIPE = QuantizeRecipe(
    mode="qat", observer="min-max", sensitivity="none", eval_items=0, samples=8, batch=4
)
GROUPED: dict[str, Any] = {"decoder_mode": "weight-only", "weight_bits": 4, "group_size": 16}


@pytest.fixture
def seen(data: Path, captioner: Model) -> list[Seen]:
    pixels = pick(Dataset.open(data), captioner.preprocess, samples=8, seed=0)
    return decode(captioner, pixels, batch=8)


def logits(model: Model, part: Seen) -> Tensor:
    pixels = torch.from_numpy(model.preprocess.normalise(part.pixels))
    return model.blip.lm_logits(part.input_ids, model.blip.vision_model(pixels))


def in_8_bits(model: Model, layers: dict[str, LayerDecision]) -> Model:
    quantization = Quantization(mode="qat", layers=layers)
    return model.with_blip(apply_quantization(deepcopy(model.blip), quantization))


@pytest.mark.parametrize("how", [{}, GROUPED, {"decoder_mode": "dynamic"}])
def test_what_is_trained_computes_as_its_8_bit_twin_does(
    captioner: Model, seen: list[Seen], how: dict[str, Any]
) -> None:
    layers = ranged(captioner, seen, replace(RECIPE, **how))
    layers[FC1] = layers[FC1].as_float("to have one")
    fake = captioner.with_blip(fake_quantized(captioner.blip, layers).eval())
    with torch.no_grad():
        for part in seen:
            assert torch.equal(logits(fake, part), logits(in_8_bits(captioner, layers), part))
    assert fake.blip.state_dict().keys() == captioner.blip.state_dict().keys()


def test_gradients_pass_straight_through_and_stop_where_inputs_are_cut_off(
    captioner: Model, seen: list[Seen]
) -> None:
    layers = ranged(captioner, seen, RECIPE)
    layers[FC1] = replace(layers[FC1], input_scale=0.01, input_zero_point=100)  # -1 to 1.55
    layer = fake_quantized(captioner.blip, layers).get_submodule(FC1)
    x = torch.linspace(-3, 3, 32 * 6).view(6, 32).requires_grad_()
    layer(x).sum().backward()
    weight = layer.get_parameter("weight")
    steps, scale = quantize_weight(weight)
    want = (steps.float() * scale[:, None]).sum(0).expand(6, 32)
    inside = (x > -1.005) & (x < 1.555)
    assert x.grad is not None and weight.grad is not None
    torch.testing.assert_close(x.grad, torch.where(inside, want, 0.0))
    read = ((torch.round(x.detach() / 0.01) + 100).clamp(0, 255) - 100) * 0.01
    torch.testing.assert_close(weight.grad, read.sum(0).expand_as(weight), rtol=1e-4, atol=1e-4)


def test_the_word_table_learns_from_both_of_its_uses(captioner: Model, seen: list[Seen]) -> None:
    layers = ranged(captioner, seen, RECIPE)
    fake = captioner.with_blip(fake_quantized(captioner.blip, layers))
    logits(fake, seen[0]).square().mean().backward()
    words = fake.blip.decoder.bert.embeddings.word_embeddings.weight
    assert words.grad is not None and float(words.grad.abs().sum(1).min()) > 0
    assert all(parameter.grad is not None for parameter in fake.blip.parameters())


def test_training_lowers_the_loss_and_what_8_bits_cost(
    captioner: Model, data: Path, seen: list[Seen]
) -> None:
    # Four bits hurt enough to be learned about in a few steps.
    recipe = replace(RECIPE, **GROUPED, steps=40, lr=1e-3)
    layers = ranged(captioner, seen, recipe)
    before = deepcopy(captioner.blip.state_dict())
    learned, curve = trained_rounded(captioner, data, layers, recipe)
    assert all(torch.equal(v, before[k]) for k, v in captioner.blip.state_dict().items())
    named = [{k: v for k, v in point.items() if k != "step"} for point in curve]
    assert sum(named[-1].values()) < sum(named[0].values())
    noises = []
    for model in (captioner, learned):
        noise = Noise()
        with torch.no_grad():
            for part in seen:
                noise.add(logits(captioner, part), logits(in_8_bits(model, layers), part))
        noises.append(noise.db)
    assert not torch.equal(learned.blip.get_parameter(f"{FC1}.weight"), before[f"{FC1}.weight"])
    assert not any(parameter.requires_grad for parameter in learned.blip.parameters())
    assert noises[1] > noises[0] + 1, noises


def test_every_task_is_trained(captioner: Model, asked: Path, task: Task, tmp_path: Path) -> None:
    model = trained(captioner, task)
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model", model)
    recipe = replace(RECIPE, samples=4, steps=2, lr=1e-3)
    output = quantize(tmp_path / "model", asked, tmp_path / "out", recipe)
    found = Quantization.load(output)
    assert found.mode == "qat" and len(found.int8_layers) == len(found.layers)
    pairs = zip(load_model(output).blip.parameters(), model.blip.parameters(), strict=True)
    assert any(not torch.equal(mine, theirs) for mine, theirs in pairs)
    load_model(output, quantized=True)


def test_a_table_of_its_own_is_trained_as_it_is_looked_up(captioner: Model) -> None:
    blip = trained(captioner, "retrieval").blip
    (path,) = quantizable_tables(blip)
    layers = dict.fromkeys(quantizable_layers(blip), LayerDecision(decision="float"))
    layers[path] = LayerDecision(decision="int8", weight_bits=8)
    fake = fake_quantized(blip, layers).get_submodule(path)
    twin = apply_quantization(deepcopy(blip), Quantization(mode="qat", layers=layers))
    ids = torch.tensor([[3, 1, 3]])
    assert torch.equal(fake(ids), twin.get_submodule(path)(ids))
    fake(ids).sum().backward()
    gradient = fake.get_parameter("weight").grad
    assert gradient is not None and gradient[:4, 0].tolist() == [0, 1, 0, 2]


def test_the_verb_measures_against_the_model_as_it_was(
    model: Path, data: Path, tmp_path: Path
) -> None:
    weights: list[Tensor] = []

    def measure(folder: Path) -> float:
        weights.append(load_model(folder).blip.get_parameter(f"{FC1}.weight").clone())
        return 99.5 if Quantization.is_in(folder) else 100.0

    recipe = replace(RECIPE, sensitivity="metric", eval_items=4, steps=3, lr=1e-3)
    output = quantize(model, data, tmp_path / "out", recipe, measure=measure)
    found = Quantization.load(output)
    assert found.metric is not None and (found.metric["float"], found.metric["int8"]) == (100, 99.5)
    original = load_model(model).blip.get_parameter(f"{FC1}.weight")
    assert len(weights) == 2 and torch.equal(weights[0], original)
    written = load_model(output).blip.get_parameter(f"{FC1}.weight")
    assert torch.equal(weights[1], written) and not torch.equal(written, original)
    history = read_provenance(output).history
    assert any("lm" in point for point in history) and history[-1]["float_layers"] == 0
    assert "trained to be rounded" in (output / "README.md").read_text()
    assert all(layer.sqnr_db is not None for layer in found.layers.values())
    assert found.layers[HEAD].form == "static"


def test_the_same_seed_trains_the_same_weights(model: Path, data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=2, lr=1e-3)
    run = partial(quantize, model, data, recipe=recipe)
    one, other = (run(tmp_path / name, seed=5) for name in ("a", "b"))
    name = "model.safetensors"
    assert (one / name).read_bytes() == (other / name).read_bytes() != (model / name).read_bytes()


def test_a_loss_that_is_no_number_stops_it(captioner: Model, data: Path, seen: list[Seen]) -> None:
    layers = ranged(captioner, seen, RECIPE)
    nn.init.constant_(captioner.blip.get_parameter(f"{FC1}.weight"), float("nan"))
    with pytest.raises(ArtifactError, match="finite"):
        trained_rounded(captioner, data, layers, replace(RECIPE, steps=2))


def test_weights_go_back_into_ordinary_layers(captioner: Model, seen: list[Seen]) -> None:
    layers = ranged(captioner, seen, RECIPE)
    fake = fake_quantized(captioner.blip, layers)
    plain = with_weights_of(captioner.blip, fake)
    assert type(plain.get_submodule(FC1)) is nn.Linear
    with torch.no_grad():
        plainly = captioner.with_blip(plain)
        assert torch.equal(logits(plainly, seen[0]), logits(captioner, seen[0]))


@pytest.mark.parametrize("override", ["steps=-1", "epochs=0", "lr=0", "warmup=-2"])
def test_training_that_makes_no_sense_is_refused(override: str) -> None:
    with pytest.raises(UsageError):
        load(QuantizeRecipe, "quantize", overrides=[override])
