"""A pretrained Vision Transformer of other origin, from which a new BLIP's image tower starts.

BLIP's own began as DeiT (paper, section 4.1). The names are those of timm, which DeiT's and
DINOv2's files have too. What a plain ViT does not have is folded into what it has, exactly, or
refused by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from blip_edge.errors import ArtifactError
from blip_edge.models.blip import Blip
from blip_edge.models.config import VisionConfig
from blip_edge.models.official import renamed
from blip_edge.models.reading import read_file, set_aside
from blip_edge.models.vit import interpolate_positions
from blip_edge.models.weights import fill, shortened

__all__ = ["ImageTower", "read_image_tower"]

# Heads are 64 wide but in these, by the width of the tower.
# Source: github.com/huggingface/pytorch-image-models, vision_transformer.py (constants only).
_HEAD_WIDTH, _OTHER_HEADS = 64, {1152: 16, 1280: 16, 1408: 16, 1664: 16}
_LEFT = {
    r"^(head|pre_logits)\.": "classifier head",
    r"^mask_token$": "mask token",
}
_FOREIGN = {
    r"^(register_tokens|reg_token)$": "register tokens",
    r"^dist_token$": "a distillation token",
    r"\.attn\.[qk]_norm\.": "norms of queries and keys",
    r"\.mlp\.(w12|w1|w2|w3|fc1_[gx])\.": "gated feed-forward networks (SwiGLU)",
    r"^norm_pre\.": "a norm before its layers",
}
_LAYER_SCALE = re.compile(r"\bls([12])\.gamma$")


@dataclass(frozen=True)
class ImageTower:
    """A ViT under our names."""

    source: Path
    config: VisionConfig
    tensors: dict[str, Tensor]
    left: dict[str, list[str]]
    """Names that stay behind, by reason."""
    stored: int
    """Tokens that its position embeddings were stored for."""

    def plant(self, blip: Blip) -> None:
        """Put it into `blip`, which has its sizes.

        Raises:
            ArtifactError: keys are unexpected, missing or of another shape.
        """
        fill(blip, self.tensors, source=self.source, fresh=r"^(?!vision_model\.)")


def read_image_tower(path: Path, *, image_size: int = 0) -> ImageTower:
    """The ViT in `path`, a state dict with the names of timm, DeiT and DINOv2.

    LayerScale is folded into the projections before it. Positions are interpolated to pictures of
    `image_size` pixels; 0 keeps its own size.

    Raises:
        UsageError: `image_size` is no multiple of the patch size.
        ArtifactError: the file is missing or damaged, or has what a plain ViT has not.
    """
    tensors, left = set_aside(read_file(path), _LEFT)
    for name in tensors:
        for pattern, what in _FOREIGN.items():
            if re.search(pattern, name):
                raise ArtifactError(f"{path} has {what} ({name}), which BLIP's image tower has not")
    tensors = _without_layer_scale(tensors, path)
    config = _vision_config(tensors, path)
    stored = config.num_tokens
    if image_size:
        config = replace(config, image_size=image_size)
    tensors["pos_embed"] = interpolate_positions(tensors["pos_embed"], config.num_tokens)
    ours = renamed({f"visual_encoder.{name}": tensor for name, tensor in tensors.items()})
    return ImageTower(path, config, ours, left, stored)


def _without_layer_scale(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """A branch's output times gamma is the output of a projection whose rows are times gamma."""
    plain = {name: tensor for name, tensor in tensors.items() if not _LAYER_SCALE.search(name)}
    for name, gamma in tensors.items():
        if not (found := _LAYER_SCALE.search(name)):
            continue
        scaled = name[: found.start()] + {"1": "attn.proj", "2": "mlp.fc2"}[found[1]]
        for part, rank in ((f"{scaled}.weight", 2), (f"{scaled}.bias", 1)):
            tensor = plain.get(part)
            if tensor is None or tensor.ndim != rank or gamma.shape != tensor.shape[:1]:
                raise ArtifactError(f"{path}: {name} {tuple(gamma.shape)} does not fit {part}")
            plain[part] = tensor * (gamma[:, None] if rank == 2 else gamma)
    return plain


def _vision_config(tensors: Mapping[str, Tensor], path: Path) -> VisionConfig:
    patches, positions = tensors.get("patch_embed.proj.weight"), tensors.get("pos_embed")
    first = tensors.get("blocks.0.mlp.fc1.weight")
    for name, tensor, rank in (
        ("patch_embed.proj.weight", patches, 4),
        ("pos_embed", positions, 3),
        ("blocks.0.mlp.fc1.weight", first, 2),
    ):
        if tensor is None or tensor.ndim != rank:
            raise ArtifactError(
                f"{path} is no ViT of timm's names: it has no {name} of {rank} dimensions, but "
                f"{shortened(sorted(tensors))}"
            )
    assert patches is not None and positions is not None and first is not None
    _, tokens, width = positions.shape
    side, patch = round(max(0, tokens - 1) ** 0.5), int(patches.shape[2])
    if side**2 + 1 != tokens or side < 1:
        raise ArtifactError(
            f"{path}: pos_embed for {tokens} tokens is no square grid and a class token"
        )
    if width % _HEAD_WIDTH:
        raise ArtifactError(f"{path}: {width} wide, no multiple of its heads' {_HEAD_WIDTH}")
    blocks = (re.match(r"blocks\.(\d+)\.", name) for name in tensors)
    return VisionConfig(
        image_size=side * patch,
        patch_size=patch,
        hidden_size=width,
        num_hidden_layers=1 + max(int(found[1]) for found in blocks if found),
        num_attention_heads=_OTHER_HEADS.get(width, width // _HEAD_WIDTH),
        intermediate_size=first.shape[0],
    )
