"""Networks and worlds so small that a test of them is quick, and lively enough to show mistakes."""

from dataclasses import replace

import torch
from torch import nn

from blip_edge.data.shapes import ShapesRecipe
from blip_edge.generation import Generation
from blip_edge.models import Blip, BlipConfig, Model, TextConfig, VisionConfig, build
from blip_edge.models.config import Architecture
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer

__all__ = ["WORLD", "config", "lively", "model"]

WORLD = ShapesRecipe(
    train=24,
    val=6,
    test=6,
    unseen=4,
    web=4,
    objects=1,
    textures=1,
    sizes=2,
    places=2,
    backgrounds=1,
    image_size=24,
    questions=1,
    dialogs=0,
    clips=0,
)
"""Twenty-four pictures of one thing each, to train on."""


def config(
    architecture: Architecture = "BlipForConditionalGeneration",
    *,
    vocab: int = 60,
) -> BlipConfig:
    """Two layers a tower, four heads, pictures of 24 pixels in nine patches."""
    vision = VisionConfig(
        image_size=24,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
    )
    text = TextConfig(
        vocab_size=vocab,
        max_position_embeddings=48,
        hidden_size=16,
        encoder_hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
    )
    return BlipConfig(
        vision_config=vision,
        text_config=text,
        architecture=architecture,
        image_text_hidden_size=8,
    )


def lively(sizes: BlipConfig, seed: int = 3) -> Blip:
    """Weights large enough that a lost layer, a wrong mask or a swapped head is seen."""
    torch.manual_seed(seed)
    blip = build(sizes)
    with torch.no_grad():
        for name, parameter in blip.named_parameters():
            if "norm" in name.lower():
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif parameter.ndim:  # the temperature stays
                nn.init.normal_(parameter, std=0.3)
    return blip.eval()


def model(texts: list[str], architecture: Architecture = "BlipForConditionalGeneration") -> Model:
    """A model folder's contents, with the vocabulary of `texts` and the prompt "a "."""
    words = Tokenizer.train(texts, 80)
    sizes = config(architecture, vocab=words.vocab_size)
    text = replace(
        sizes.text_config,
        bos_token_id=words.dec,
        pad_token_id=words.pad,
        sep_token_id=words.sep,
    )
    generation = Generation(
        bos_token_id=words.dec,
        eos_token_id=words.sep,
        pad_token_id=words.pad,
        num_beams=2,
        min_length=3,
        max_length=9,
        prompt="a ",
    )
    blip = lively(replace(sizes, text_config=text))
    return Model(blip, words, Preprocess(size=sizes.vision_config.image_size), generation)
