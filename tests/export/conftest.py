"""A tiny captioner whose weights are large enough that a mistake shows, float and in 8 bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blip_edge.artifact import Provenance, write_provenance
from blip_edge.exporters import ExportRecipe, export
from blip_edge.exporters.recipe import ExportTarget
from blip_edge.generation import Generation
from blip_edge.models import BlipConfig, Model, TextConfig, VisionConfig, build, save_model
from blip_edge.models.quantized import LayerDecision, Quantization, quantizable_layers
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer

TEXTS = (
    "a picture of a red circle above a blue square",
    "a picture of two green triangles on a white table",
    "a small yellow star left of a large purple ring",
)


def _tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, 120)


def _config(vocabulary: int, *, uneven: bool) -> BlipConfig:
    vision = VisionConfig(
        image_size=32,
        patch_size=8,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=(6, 3) if uneven else 6,
        intermediate_size=(96, 40) if uneven else 96,
        head_dim=8,
    )
    text = TextConfig(
        vocab_size=vocabulary,
        max_position_embeddings=48,
        hidden_size=32,
        encoder_hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=(4, 2) if uneven else 4,
        cross_attention_heads=(1, 3) if uneven else None,
        intermediate_size=(64, 24) if uneven else 64,
        head_dim=8,
    )
    return BlipConfig(vision_config=vision, text_config=text)


def lively_model(*, uneven: bool = False) -> Model:
    torch.manual_seed(3)
    tokenizer = _tokenizer()
    blip = build(_config(tokenizer.vocab_size, uneven=uneven)).eval()
    with torch.no_grad():
        for name, tensor in blip.named_parameters():
            if "norm" in name.lower():
                tensor.add_(torch.randn_like(tensor) * 0.2)
            else:
                tensor.normal_(std=0.3)
    generation = Generation(
        bos_token_id=tokenizer.dec,
        eos_token_id=tokenizer.sep,
        pad_token_id=tokenizer.pad,
        max_length=16,
    )
    return Model(blip, tokenizer, Preprocess(size=32), generation)


def save(folder: Path, model: Model) -> Path:
    folder.mkdir()
    save_model(folder, model)
    write_provenance(folder, Provenance(verb="train", recipe={}, version="0", seconds=0.0))
    return folder


def calibrated(model: Model) -> Quantization:
    """Every layer that can be in 8 bits, its input range taken from a few random pictures."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(8, 3, 32, 32, generator=generator)
    ids = torch.randint(0, model.tokenizer.vocab_size, (8, 12), generator=generator)
    return ranged(model, lambda: model.blip.lm_logits(ids, model.blip.vision_model(pixels)))


@torch.no_grad()
def ranged(model: Model, run: Callable[[], object]) -> Quantization:
    """Every layer that can be in 8 bits, its input range that of what `run` shows it."""
    layers = quantizable_layers(model.blip)
    ranges: dict[str, tuple[float, float]] = {}

    def watch(path: str) -> None:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = ranges.get(path, (0.0, 0.0))
            ranges[path] = min(low, float(inputs[0].min())), max(high, float(inputs[0].max()))

        model.blip.get_submodule(path).register_forward_pre_hook(see)

    for path in layers:
        watch(path)
    run()
    return Quantization(mode="static", layers={p: _decision(*ranges[p]) for p in layers})


def _decision(low: float, high: float) -> LayerDecision:
    scale = float(np.float32((high - low) / 255))
    return LayerDecision(
        decision="int8",
        weight_bits=8,
        activation_bits=8,
        input_scale=scale,
        input_zero_point=round(-low / scale),
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float MODEL folder."""
    return save(tmp_path_factory.mktemp("models") / "even", lively_model())


@pytest.fixture(scope="session")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float MODEL folder whose layers differ in heads and widths."""
    return save(tmp_path_factory.mktemp("models") / "uneven", lively_model(uneven=True))


@pytest.fixture(scope="session")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float model with a quantization.json, all layers in 8 bits."""
    path = save(tmp_path_factory.mktemp("models") / "quantized", lively_model())
    calibrated(lively_model()).save(path)
    return path


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`exported(model, target, **recipe)`: a bundle, made once for all tests."""
    root = tmp_path_factory.mktemp("bundles")
    done: dict[str, Path] = {}

    def export_once(model: Path, target: ExportTarget, **recipe: Any) -> Path:
        name = "-".join([model.name, target, *map(str, recipe.values())])
        if name not in done:
            done[name] = export(
                model, root / name, target=target, recipe=ExportRecipe(golden=2, **recipe)
            )
        return done[name]

    return export_once


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
