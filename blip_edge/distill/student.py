"""How a student is cut out of its teacher: what it inherits of layers, heads and channels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from blip_edge.distill.importance import Importance
from blip_edge.distill.surgery import Keep, LayerKeep, cut
from blip_edge.errors import UsageError
from blip_edge.models.blip import Blip
from blip_edge.models.config import BlipConfig, TowerConfig
from blip_edge.models.student import StudentSizes, last_of_each_block
from blip_edge.models.vit import interpolate_positions

__all__ = ["LayerChoice", "inherit", "most_important", "resize_patches"]

LayerChoice = Literal["last", "important"]


def inherit(
    teacher: Blip, config: BlipConfig, importance: Importance, *, layers: LayerChoice = "last"
) -> tuple[Blip, Keep]:
    """A student of `config` with the most important of all that its teacher has, and what that is.

    Layers are the last of each block of the teacher's, or those that matter most. Patches of
    another size and pictures of another resolution get the teacher's weights resized. What the
    student's encoder and decoder share is the mean of the teacher's two, which pre-training had in
    one.

    Raises:
        UsageError: the student has more of something than its teacher.
    """
    ours = teacher.config
    scores = importance.scores
    keep = Keep(
        vision=_layers("vision", ours.vision_config, config.vision_config, importance, layers),
        text=_layers("text", ours.text_config, config.text_config, importance, layers),
        vision_channels=_best(scores, "vision", config.vision_config.hidden_size),
        text_channels=_best(scores, "text", config.text_config.hidden_size),
        embed=_leading(ours.image_text_hidden_size, config.image_text_hidden_size),
    )
    student = _resized(cut(teacher, keep), config)
    return _tied(student) if config.tie_encoder_decoder else student, keep


def most_important(
    teacher: BlipConfig, sizes: StudentSizes, importance: Importance
) -> dict[str, list[int]]:
    """By tower the numbers of the layers that matter most, as many as a student of `sizes` has."""
    return {
        tower: _numbers(tower, there, getattr(sizes, f"{tower}_layers") or there, importance)
        for tower, there in (
            ("vision", teacher.vision_config.num_hidden_layers),
            ("text", teacher.text_config.num_hidden_layers),
        )
    }


def _numbers(tower: str, there: int, count: int, importance: Importance) -> list[int]:
    by_score = sorted(range(there), key=lambda i: importance.layer(tower, i), reverse=True)
    return sorted(by_score[:count])


def _layers(
    tower: str,
    theirs: TowerConfig,
    wanted: TowerConfig,
    importance: Importance,
    choice: LayerChoice,
) -> dict[int, LayerKeep]:
    count, there = wanted.num_hidden_layers, theirs.num_hidden_layers
    if choice == "last":
        numbers = last_of_each_block(there, count)
    else:
        numbers = _numbers(tower, there, count, importance)
    cross = getattr(wanted, "cross_heads", (0,) * count)
    scores = importance.scores
    return {
        number: LayerKeep(
            _top(scores, f"{tower}.{number}.heads", wanted.heads[new]),
            _top(scores, f"{tower}.{number}.cross_heads", cross[new]) if tower == "text" else [],
            _top(scores, f"{tower}.{number}.neurons", wanted.ffn_widths[new]),
        )
        for new, number in enumerate(numbers)
    }


def _best(scores: dict[str, Tensor], label: str, count: int) -> list[int] | None:
    """Channels that stay, None for all."""
    return None if count == len(scores[label]) else _top(scores, label, count)


def _leading(there: int, count: int) -> list[int] | None:
    if count > there:
        raise UsageError(f"embed_dim {count} is more than the teacher's {there}")
    return None if count == there else list(range(count))


def _top(scores: dict[str, Tensor], label: str, count: int) -> list[int]:
    """The units of `label` that matter most, in their old order."""
    there = scores[label]
    if count > len(there):
        tower, _, rest = label.partition(".")
        number, _, kind = rest.partition(".")
        key = f"{tower}_{kind or 'width'}" + (f" of layer {number}" if number else "")
        raise UsageError(f"{key}: a student with {count} of what its teacher has {len(there)} of")
    kept: Sequence[int] = there.topk(count).indices.tolist()
    return sorted(kept)


def _resized(student: Blip, config: BlipConfig) -> Blip:
    """The same weights for patches and pictures of `config`'s sizes, and its image tokens."""
    wanted, there = config.vision_config, student.config.vision_config
    vision = replace(
        there,
        patch_size=wanted.patch_size,
        image_size=wanted.image_size,
        tokens_kept=wanted.tokens_kept,
    )
    if vision == there:
        return student
    state = student.state_dict()
    patches, positions = (
        f"vision_model.embeddings.{name}"
        for name in ("patch_embedding.weight", "position_embedding")
    )
    state[patches] = resize_patches(state[patches], wanted.patch_size)
    state[positions] = interpolate_positions(state[positions], wanted.num_tokens)
    resized = Blip(replace(student.config, vision_config=vision))
    resized.load_state_dict(state)
    return resized.eval()


def _tied(student: Blip) -> Blip:
    """The same with one of what encoder and decoder share."""
    tied = Blip(replace(student.config, tie_encoder_decoder=True))
    state = student.state_dict()
    names: dict[int, list[str]] = {}
    for name, parameter in tied.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    tied.load_state_dict(
        {
            name: torch.stack([state[each] for each in shared]).mean(0)
            for shared in names.values()
            for name in shared
        }
    )
    return tied.eval()


def resize_patches(weight: Tensor, size: int) -> Tensor:
    """(D, 3, P, P) patch embedding for patches of side `size`, (D, 3, size, size).

    The weights whose products with resized patches are nearest to the products before (FlexiViT's
    PI-resize, arXiv 2212.08013, section 3.4): pinv(B)ᵀ w, where B resizes a patch.
    """
    old = weight.shape[-1]
    if old == size:
        return weight
    pixels = torch.eye(old * old).view(old * old, 1, old, old)
    resized = F.interpolate(pixels, size=(size, size), mode="bicubic", align_corners=False)
    matrix = resized.flatten(1)  # (P · P, size · size): row i is pixel i, resized
    inverse = torch.linalg.pinv(matrix)  # (size · size, P · P)
    resized_weight: Tensor = (weight.flatten(2) @ inverse.T).unflatten(-1, (size, size))
    return resized_weight.contiguous()
