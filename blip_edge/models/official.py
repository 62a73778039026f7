"""The released checkpoints' names and sizes: an official `.pth` as our weights and configuration.

The files hold a state dict under "model", and no configuration: what a model is for and how large
it is follows from the tensors' names and shapes. Their heads are 64 wide, their layer norms have
an epsilon of 1e-6 in the image tower and 1e-12 in the text tower.
Source: github.com/salesforce/BLIP, models/ and configs/ (names, shapes and constants only).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models.config import (
    ARCHITECTURES,
    Architecture,
    BlipConfig,
    Parts,
    TextConfig,
    VisionConfig,
)
from blip_edge.models.weights import shortened

__all__ = ["config_of", "renamed", "split"]

_HEAD_WIDTH = 64

# Ours are Hugging Face's names; text towers, projections and heads have them already.
_RENAMED = (
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (
        r"^visual_encoder\.blocks\.(\d+)\.norm([12])\.",
        r"vision_model.encoder.layers.\1.layer_norm\2.",
    ),
    (
        r"^visual_encoder\.blocks\.(\d+)\.attn\.qkv\.",
        r"vision_model.encoder.layers.\1.self_attn.qkv.",
    ),
    (
        r"^visual_encoder\.blocks\.(\d+)\.attn\.proj\.",
        r"vision_model.encoder.layers.\1.self_attn.projection.",
    ),
    (r"^visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
)

# What pre-training and retrieval need while they train, and nothing else does.
_MOMENTUM = re.compile(r"^(visual_encoder|text_encoder|vision_proj|text_proj)_m\.")
_QUEUES = ("image_queue", "text_queue", "idx_queue", "queue_ptr", "ptr_queue")

_PART = {
    "text_encoder.": "encoder",
    "text_decoder.": "decoder",
    "vision_proj.": "compares",
    "text_proj.": "compares",
    "itm_head.": "compares",
    "temp": "compares",
    "cls_head.": "twin",
}


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under our names."""
    return {_renamed(name): tensor for name, tensor in tensors.items()}


def _renamed(name: str) -> str:
    for pattern, ours in _RENAMED:
        name, found = re.subn(pattern, ours, name)
        if found:
            break
    return name


def split(
    tensors: Mapping[str, Tensor], architecture: Architecture | None = None
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """The tensors that a model of `architecture` uses, and by reason those that stay behind.

    Those are momentum copies, queues, and with an architecture the parts that it does not have.
    """
    parts = None if architecture is None else BlipConfig(architecture=architecture).parts
    used: dict[str, Tensor] = {}
    left: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        reason = _reason(name, parts)
        if reason is None:
            used[name] = tensor
        else:
            left.setdefault(reason, []).append(name)
    return used, left


def _reason(name: str, parts: Parts | None) -> str | None:
    if _MOMENTUM.match(name):
        return "momentum copies"
    if name in _QUEUES:
        return "queues"
    part = _part(name)
    if parts is not None and part is not None and not getattr(parts, part):
        return "parts of other tasks"
    return None


def _part(name: str) -> str | None:
    return next((part for start, part in _PART.items() if name.startswith(start)), None)


def config_of(
    tensors: Mapping[str, Tensor], *, task: str | None = None, source: Path | str
) -> BlipConfig:
    """The configuration that tensors under our names imply; `source` is named in errors.

    Args:
        tensors: weights, without momentum copies and queues.
        task: what the model shall be for; as the tensors say when not given.

    Raises:
        ArtifactError: these are no BLIP's weights, or not those of the task.
    """
    sizes = _Sizes(tensors, source)
    try:
        return BlipConfig(
            vision_config=sizes.vision(),
            text_config=sizes.text(),
            architecture=_architecture(tensors, task, source),
            image_text_hidden_size=sizes.of("vision_proj.weight", 0, absent=256),
        )
    except UsageError as error:
        raise ArtifactError(f"{source}: {error}") from None


def _architecture(
    tensors: Mapping[str, Tensor], task: str | None, source: Path | str
) -> Architecture:
    has = {part for name in tensors if (part := _part(name)) is not None}
    parts = Parts(**{part: True for part in has})
    if task is None:
        for architecture in ARCHITECTURES.values():
            if BlipConfig(architecture=architecture).parts == parts:
                return architecture
        starts = ", ".join(sorted({name.split(".")[0] for name in tensors}))
        raise ArtifactError(f"{source}: its parts ({starts}) are those of no task; give --task")
    architecture = ARCHITECTURES[task]
    needed = BlipConfig(architecture=architecture).parts
    lacking = [s for s, part in _PART.items() if getattr(needed, part) and part not in has]
    if lacking:
        raise ArtifactError(f"{source} has no {lacking[0].rstrip('.')}, which {task} needs")
    return architecture


class _Sizes:
    """Sizes read off shapes; a tensor that is missing is named."""

    def __init__(self, tensors: Mapping[str, Tensor], source: Path | str) -> None:
        self._tensors, self._source = tensors, source

    def of(self, name: str, axis: int, *, absent: int | None = None) -> int:
        tensor = self._tensors.get(name)
        if tensor is None and absent is not None:
            return absent
        if tensor is None or tensor.ndim <= axis:
            raise ArtifactError(
                f"{self._source} is no BLIP checkpoint: it has no {name} of the right rank, but "
                f"{shortened(sorted(self._tensors))}"
            )
        return int(tensor.shape[axis])

    def _layers(self, prefix: str) -> int:
        inside = (name.removeprefix(prefix) for name in self._tensors if name.startswith(prefix))
        numbers = [int(found[0]) for name in inside if (found := re.match(r"\d+", name))]
        return max(numbers, default=-1) + 1

    def _heads(self, width: int, what: str) -> int:
        if width % _HEAD_WIDTH:
            raise ArtifactError(
                f"{self._source}: {what} is {width} wide, no multiple of {_HEAD_WIDTH}, which "
                "BLIP's heads are"
            )
        return width // _HEAD_WIDTH

    def vision(self) -> VisionConfig:
        tower = "vision_model"
        patch = self.of(f"{tower}.embeddings.patch_embedding.weight", 2)
        tokens = self.of(f"{tower}.embeddings.position_embedding", 1)
        width = self.of(f"{tower}.embeddings.position_embedding", 2)
        side = round(max(0, tokens - 1) ** 0.5)
        if side**2 + 1 != tokens:
            raise ArtifactError(
                f"{self._source}: positions for {tokens} tokens are no square grid and a class "
                "token; BLIP takes square pictures"
            )
        return VisionConfig(
            image_size=side * patch,
            patch_size=patch,
            hidden_size=width,
            num_hidden_layers=self._layers(f"{tower}.encoder.layers."),
            num_attention_heads=self._heads(width, "the image tower"),
            intermediate_size=self.of(f"{tower}.encoder.layers.0.mlp.fc1.weight", 0),
        )

    def text(self) -> TextConfig:
        starts = {name.split(".")[0] for name in self._tensors}
        # The encoder reads the picture; an answering decoder reads questions.
        tower = "text_encoder" if "text_encoder" in starts else "text_decoder.bert"
        words = f"{tower}.embeddings.word_embeddings.weight"
        layer = f"{tower}.encoder.layer.0"
        twin = f"{layer}.crossattention.self0.key.weight" in self._tensors
        vocabulary, width = self.of(words, 0), self.of(words, 1)
        return TextConfig(
            vocab_size=vocabulary,
            max_position_embeddings=self.of(f"{tower}.embeddings.position_embeddings.weight", 0),
            hidden_size=width,
            encoder_hidden_size=self.of(
                f"{layer}.crossattention.self{'0' if twin else ''}.key.weight", 1
            ),
            num_hidden_layers=self._layers(f"{tower}.encoder.layer."),
            num_attention_heads=self._heads(width, "the text tower"),
            intermediate_size=self.of(f"{layer}.intermediate.dense.weight", 0),
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
            bos_token_id=vocabulary - 2,
        )
