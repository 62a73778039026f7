"""Folding changes no answer of the float model, of any task, whatever the numbers are."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from blip_edge.models import Blip
from blip_edge.models.bert import TextModel
from blip_edge.models.config import Architecture, BlipConfig
from blip_edge.models.quantized import quantizable_layers
from blip_edge.quantize.folds import Fold, folds_of
from tests.tiny import config, lively

assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)
IDS = torch.tensor([[2, 7, 9, 11, 5], [2, 30, 31, 6, 8]])
MASK = torch.ones_like(IDS)
ARCHITECTURES: list[Architecture] = [
    "BlipForConditionalGeneration",
    "BlipForImageTextRetrieval",
    "BlipForQuestionAnswering",
    "BlipForPreTraining",
    "BlipForImagesAndTextClassification",
]


def of_one_width(architecture: Architecture) -> BlipConfig:
    sizes = config(architecture)
    text = replace(sizes.text_config, hidden_size=32)
    return replace(sizes, text_config=text)


def tied(architecture: Architecture) -> BlipConfig:
    """Encoder and decoder share their last norm."""
    answering = architecture == "BlipForQuestionAnswering"
    return replace(config(architecture), tie_encoder_decoder=answering)


def merging(architecture: Architecture) -> BlipConfig:
    """The last image layer has fewer tokens, a tower has other heads a layer."""
    sizes = config(architecture)
    vision = replace(
        sizes.vision_config, tokens_kept=(10, 7), num_attention_heads=(4, 2), head_dim=8
    )
    return replace(sizes, vision_config=vision)


@torch.no_grad()
def answers(blip: Blip) -> list[Tensor]:
    """All that a model can say of two pictures and two texts."""
    parts, said = blip.config.parts, []
    generator = torch.Generator().manual_seed(5)
    left, right = (blip.image_tokens(torch.randn(2, 3, 24, 24, generator=generator)) for _ in "ab")
    if parts.twin:
        said.append(blip.reason_logits(IDS, MASK, left, right))
    if parts.decoder and (parts.compares or not parts.encoder):
        said.append(blip.lm_logits(IDS, left))
    if parts.compares:
        said += [blip.embed_image(left), blip.embed_text(IDS, MASK)]
        said.append(blip.itm_logits(IDS, MASK, blip.encoder.cross(left)))
        if blip.config.text_config.hidden_size == blip.config.vision_config.hidden_size:
            said.append(blip.itm_logits(IDS, MASK, blip.dialog_cross(left, IDS.flip(0), MASK)))
    if parts.encoder and parts.decoder and not parts.compares:
        states = blip.ground(IDS, MASK, blip.encoder.cross(left))
        hidden, _ = blip.decoder.bert(IDS, None, blip.answer_cross(states, MASK))
        said.append(blip.decoder.logits(hidden))
    return said


def somehow(fold: Fold) -> Tensor:
    width = fold.readers[0].in_features
    return torch.rand(width, generator=torch.Generator().manual_seed(width)) * 8 + 0.2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("sizes", [config, of_one_width, merging, tied])
def test_all_folds_together_change_no_answer(architecture: Architecture, sizes: object) -> None:
    assert callable(sizes)
    blip = lively(sizes(architecture))
    before = answers(blip)
    assert all(float(each.std()) > 1e-3 for each in before), "the fixture is lively"
    for fold in folds_of(blip):
        fold.apply(somehow(fold))
    after = answers(blip)
    for mine, theirs in zip(after, before, strict=True):
        assert_close(mine, theirs)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_layer_reads_one_fold_at_most_and_its_inputs_are_divided(
    architecture: Architecture,
) -> None:
    blip = lively(of_one_width(architecture))
    folds = folds_of(blip)
    readers = [reader for fold in folds for reader in fold.readers]
    assert len(readers) == len(set(readers))
    read: dict[nn.Linear, list[Tensor]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Linear)
        read.setdefault(layer, []).append(inputs[0].clone())

    for reader in readers:
        reader.register_forward_pre_hook(note)
    answers(blip)
    before, read = read, {}
    for fold in folds:
        fold.apply(somehow(fold))
    answers(blip)
    for fold in folds:
        for reader in fold.readers:
            for mine, theirs in zip(read[reader], before[reader], strict=True):
                assert_close(mine * somehow(fold), theirs)


def test_what_is_smoothed_and_what_cannot_be(architecture: Architecture = ARCHITECTURES[0]) -> None:
    blip = lively(config(architecture))
    names = {module: path for path, module in blip.named_modules()}
    found = {names[reader] for fold in folds_of(blip) for reader in fold.readers}
    left = set(quantizable_layers(blip)) - found
    kinds = {path.rsplit(".layer", 1)[-1].split(".", 2)[-1] for path in left}
    assert kinds == {
        "mlp.fc2",
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "crossattention.self.query",
        "intermediate.dense",
        "output.dense",
        "predictions.decoder",
    }
    assert "text_decoder.bert.encoder.layer.0.attention.output.dense" in found


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_layers_without_heads_or_neurons_are_passed_over() -> None:
    sizes = config()
    vision = replace(
        sizes.vision_config, num_attention_heads=(4, 0), intermediate_size=(0, 48), head_dim=8
    )
    text = replace(sizes.text_config, intermediate_size=(0, 40))
    blip = Blip(replace(sizes, vision_config=vision, text_config=text)).eval()
    with torch.no_grad():
        for parameter in blip.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    before = answers(blip)
    for fold in folds_of(blip):
        fold.apply(somehow(fold))
    for mine, theirs in zip(answers(blip), before, strict=True):
        assert_close(mine, theirs)


def test_a_shared_layer_is_folded_once() -> None:
    blip = lively(of_one_width("BlipForPreTraining"))
    folds = folds_of(blip)
    shared = [block.crossattention for block in blip.encoder.blocks]
    assert isinstance(blip.encoder, TextModel)
    values = [a.self.value for a in shared]
    assert sum(fold.made_by in values for fold in folds) == len(values)
