"""The sizes of a student: what is smaller in it than in its teacher.

Sizes are enough for the student's `config.json`, and with it for what it costs; nothing is built
here. A student starts from its teacher's weights, so in nothing may it be larger than that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from blip_edge.errors import UsageError
from blip_edge.models.config import BlipConfig, PerLayer, TextConfig, TowerConfig, VisionConfig
from blip_edge.models.token_schedule import resized_schedule

__all__ = ["StudentSizes", "last_of_each_block", "student_config"]

T = TypeVar("T", VisionConfig, TextConfig)


@dataclass(frozen=True, kw_only=True)
class StudentSizes:
    """Sizes of a student; 0 is always the teacher's. A head is as wide as the teacher's."""

    vision_layers: int = 0
    """Layers of the image tower; the last of each block of the teacher's are taken."""
    vision_width: int = 0
    """Width of the image tower."""
    vision_heads: int = 0
    """Attention heads in each of its layers; 0 in a tower of another width: as many as fill it."""
    vision_neurons: int = 0
    """Feed-forward neurons in each of its layers; 0 in a tower of another width: 4 times that."""
    patch_size: int = 0
    """Side of a patch, in pixels."""
    image_size: int = 0
    """Side of the square that pictures are squashed to."""
    text_layers: int = 0
    """Layers of the text tower, encoder and decoder alike."""
    text_width: int = 0
    """Width of the text tower, and of the word table."""
    text_heads: int = 0
    """Heads in each of its self- and cross-attentions; 0 as `vision_heads`."""
    text_neurons: int = 0
    """Feed-forward neurons in each of its layers; 0 as `vision_neurons`."""
    embed_dim: int = 0
    """Width of the space where images and texts are compared."""
    tie_encoder_decoder: bool = False
    """Whether an answering student's encoder and decoder share words and feed-forward networks."""

    def __post_init__(self) -> None:
        for each in fields(StudentSizes):
            if getattr(self, each.name) < 0:
                raise UsageError(
                    f"{each.name} must not be negative, got {getattr(self, each.name)}; "
                    "0 is the teacher's"
                )


def student_config(
    teacher: BlipConfig, sizes: StudentSizes, layers: Mapping[str, Sequence[int]] | None = None
) -> BlipConfig:
    """The student's sizes: the teacher's architecture and vocabulary, in smaller towers.

    Layers that differ from each other, as pruning leaves them, keep their own heads and neurons
    where `sizes` does not say otherwise. The layers that merge what was seen of two pictures are
    those that did in the teacher, and as large a share of image tokens is merged.

    Args:
        teacher: its sizes.
        sizes: what is smaller.
        layers: by tower, `vision` and `text`, the numbers of the teacher's layers that the student
            has; None takes the last of each of equal blocks.

    Raises:
        UsageError: the student would be larger than its teacher, heads do not fill a tower, or
            patches do not fill a picture.
    """
    layers = layers or {}
    vision = _vision(teacher.vision_config, sizes, layers.get("vision"))
    text = _text(teacher.text_config, sizes, layers.get("text"))
    shared = sizes.embed_dim or teacher.image_text_hidden_size
    _at_most("embed_dim", shared, teacher.image_text_hidden_size)
    return replace(
        teacher,
        vision_config=vision,
        text_config=replace(text, encoder_hidden_size=vision.hidden_size),
        image_text_hidden_size=shared,
        tie_encoder_decoder=sizes.tie_encoder_decoder or teacher.tie_encoder_decoder,
    )


def last_of_each_block(layers: int, wanted: int) -> list[int]:
    """`wanted` of `layers` layers: the last of each of as many equal blocks."""
    return [(i + 1) * layers // wanted - 1 for i in range(wanted)]


def _vision(config: VisionConfig, sizes: StudentSizes, kept: Sequence[int] | None) -> VisionConfig:
    tower, kept = _tower(config, sizes, "vision", kept)
    out = replace(
        tower,
        patch_size=sizes.patch_size or config.patch_size,
        image_size=sizes.image_size or config.image_size,
    )
    if out.num_tokens > config.num_tokens:
        key = "image_size" if out.image_size > config.image_size else "patch_size"
        raise UsageError(
            f"{key} = {getattr(out, key)} makes {out.num_tokens} image tokens, "
            f"but the teacher has {config.num_tokens} ({config.image_size} pixels in patches of "
            f"{config.patch_size})"
        )
    if config.tokens_kept is None:
        return out
    left = [config.tokens_kept[i] for i in kept]
    return replace(out, tokens_kept=resized_schedule(left, config.num_tokens, out.num_tokens))


def _text(config: TextConfig, sizes: StudentSizes, kept: Sequence[int] | None) -> TextConfig:
    tower, kept = _tower(config, sizes, "text", kept)
    cross: PerLayer = tower.num_attention_heads
    if not sizes.text_heads and tower.hidden_size == config.hidden_size:
        cross = _alike([config.cross_heads[i] for i in kept])
    elif isinstance(cross, int):
        _at_most("text_heads", cross, min(config.cross_heads[i] for i in kept))
    return replace(
        tower,
        cross_attention_heads=cross,
        merge_from_layer=sum(i < config.merge_from_layer for i in kept),
    )


def _tower(
    config: T, sizes: StudentSizes, name: str, kept: Sequence[int] | None
) -> tuple[T, Sequence[int]]:
    """The smaller tower, and the teacher's layers that it has."""
    layers: int = getattr(sizes, f"{name}_layers") or config.num_hidden_layers
    width: int = getattr(sizes, f"{name}_width") or config.hidden_size
    _at_most(f"{name}_layers", layers, config.num_hidden_layers)
    _at_most(f"{name}_width", width, config.hidden_size)
    if kept is None:
        kept = last_of_each_block(config.num_hidden_layers, layers)
    changes: dict[str, Any] = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": _heads(config, sizes, name, width, kept),
        "intermediate_size": _neurons(config, sizes, name, width, kept),
        "head_dim": config.head_width,
    }
    # A list for other layers would not pass the tower's own checks.
    changes["cross_attention_heads" if isinstance(config, TextConfig) else "tokens_kept"] = None
    return replace(config, **changes), kept


def _heads(
    config: TowerConfig, sizes: StudentSizes, name: str, width: int, kept: Sequence[int]
) -> PerLayer:
    key = f"{name}_heads"
    there = [config.heads[i] for i in kept]
    wanted: int = getattr(sizes, key)
    if not wanted and width == config.hidden_size:
        return _alike(there)
    if not wanted and width % config.head_width:
        raise UsageError(
            f"{name}_width = {width} is no multiple of the teacher's head width, "
            f"{config.head_width}; take one, or set {key}"
        )
    wanted = wanted or width // config.head_width
    _at_most(key, wanted, min(there))
    return wanted


def _neurons(
    config: TowerConfig, sizes: StudentSizes, name: str, width: int, kept: Sequence[int]
) -> PerLayer:
    there = [config.ffn_widths[i] for i in kept]
    wanted: int = getattr(sizes, f"{name}_neurons")
    if not wanted and width == config.hidden_size:
        return _alike(there)
    wanted = wanted or 4 * width
    _at_most(f"{name}_neurons", wanted, min(there))
    return wanted


def _alike(values: Sequence[int]) -> PerLayer:
    """One number when all layers are alike."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def _at_most(key: str, wanted: int, there: int) -> None:
    if wanted > there:
        raise UsageError(f"{key} = {wanted}, but the teacher has {there}")
