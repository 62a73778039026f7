"""What a training run may be told."""

from dataclasses import dataclass
from typing import Literal

from blip_edge.errors import UsageError

__all__ = ["Optimisation", "TrainRecipe"]


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How long and how fast any stage that trains does so."""

    steps: int = 0
    """Optimiser steps; 0 says that `epochs` decides."""
    epochs: float = 1.0
    """Passes over the rows, when `steps` is 0."""
    batch: int = 32
    """Rows a step."""
    lr: float = 1e-4
    """Peak learning rate of AdamW."""
    warmup: int = 0
    """Steps in which the learning rate rises from 0 to `lr`."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up the rate falls to 0 along a half cosine, or stays."""
    weight_decay: float = 0.05
    """AdamW's decay, on all parameters, as BLIP trains."""
    clip: float = 1.0
    """Longest gradient; a longer one is scaled down to it."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass; weights stay float32."""
    max_bad: float = 0.01
    """Share of pictures that may be unreadable before the run stops."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.epochs <= 0:
            raise UsageError("steps must not be negative and epochs must be positive")
        if self.batch < 1:
            raise UsageError(f"batch must be at least 1, got {self.batch}")
        if not self.lr > 0 or not self.clip > 0:
            raise UsageError("lr and clip must be positive")
        if self.warmup < 0 or not self.weight_decay >= 0:
            raise UsageError("warmup and weight_decay must not be negative")
        _shares(self, "max_bad")


@dataclass(frozen=True, kw_only=True)
class TrainRecipe(Optimisation):
    """Training of a BLIP: pre-training with three objectives, or captioning.

    The sizes of towers count only where nothing is given to start from: with --init they are the
    model's, with --vision-init and --text-init the towers'.
    """

    task: Literal["pretrain", "caption"] = "caption"
    """pretrain: ITC + ITM + LM; caption: LM with the prompt not counted."""
    image_size: int = 0
    """Side of the square that pictures are squashed to; another than the model's interpolates its
    position embeddings. 0 is the model's own, and 384 for one that starts from nothing."""
    prompt: str = "a picture of "
    """Words that every caption starts from (captioning)."""
    max_words: int = 30
    """Words of a caption that are kept."""
    label_smoothing: float = 0.1
    """Share of the language-model target that is spread over all words."""
    queue_size: int = 57600
    """Features that the contrastive loss remembers (pre-training)."""
    momentum: float = 0.995
    """How slowly the momentum encoders follow (pre-training)."""
    alpha: float = 0.4
    """Weight of the momentum encoders' soft targets (pre-training)."""
    alpha_warmup: int = 0
    """Steps in which `alpha` rises from 0."""
    vision_layers: int = 12
    """Layers of the image tower."""
    vision_width: int = 768
    """Width of the image tower."""
    vision_heads: int = 12
    """Attention heads in each layer of the image tower."""
    patch_size: int = 16
    """Side of a patch, in pixels."""
    text_layers: int = 12
    """Layers of the text tower."""
    text_width: int = 768
    """Width of the text tower."""
    text_heads: int = 12
    """Attention heads in each layer of the text tower."""
    dropout: float = 0.1
    """Share of the text tower's activations and attention that training silences."""
    embed_dim: int = 256
    """Width of the space where images and texts are compared."""
    vocab_size: int = 30524
    """Most word pieces of the vocabulary that is learned from the data's captions."""
    max_positions: int = 512
    """Longest text that the model can hold, in tokens."""
    num_beams: int = 3
    """Beams with which the trained captioner searches."""
    min_length: int = 5
    """Fewest tokens of a caption, counting the prompt."""
    max_length: int = 20
    """Most tokens of a caption, counting the prompt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _shares(self, "label_smoothing", "momentum", "alpha", "dropout")
        if self.queue_size < 0 or self.alpha_warmup < 0:
            raise UsageError("queue_size and alpha_warmup must not be negative")
        if self.image_size < 0:
            raise UsageError(f"image_size must not be negative, got {self.image_size}")
        if self.max_words < 1:
            raise UsageError(f"max_words must be at least 1, got {self.max_words}")


def _shares(recipe: Optimisation, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(recipe, name) <= 1:
            raise UsageError(f"{name} must lie between 0 and 1, got {getattr(recipe, name)}")
