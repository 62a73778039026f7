"""Weights in and out: safetensors only, every key accounted for.

Nothing is dropped or left random silently: a key that the model does not know, a key that the file
lacks and a shape that differs are all listed in the error. A few are harmless and pass: buffers
that older files carry, and the copies of tied weights.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from blip_edge.errors import ArtifactError
from blip_edge.models.vit import interpolate_positions

__all__ = ["load_state", "read_weights", "save_weights"]

# Derived or tied: our modules compute them, files of other origin may store them.
_HARMLESS = (
    "position_ids",
    "logit_scale",
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
)
_POSITIONS = "vision_model.embeddings.position_embedding"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, as float32 on the CPU.

    Raises:
        ArtifactError: the file is missing, not safetensors, or holds a NaN or an infinity.
    """
    if not Path(path).is_file():
        raise ArtifactError(f"{path} is missing; a model folder needs its weights")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is not a safetensors file: {error}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ArtifactError(f"{path}: {name} holds values that are not finite numbers")
    return {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}


def save_weights(model: nn.Module, path: Path) -> None:
    """Write `model`'s weights; tensors that are shared are stored once, under their first name."""
    seen: set[int] = set()
    stored = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            seen.add(tensor.data_ptr())
            stored[name] = tensor.detach().cpu().contiguous()
    save_file(stored, path, metadata={"format": "pt"})


def load_state(model: nn.Module, tensors: Mapping[str, Tensor], *, source: Path | str) -> None:
    """Copy `tensors` into `model`; `source` is named in errors.

    Position embeddings for another picture size are interpolated.

    Raises:
        ArtifactError: keys are unexpected, missing or of another shape; the first are named.
    """
    own = model.state_dict()
    given = {name: t for name, t in tensors.items() if not name.endswith(_HARMLESS)}
    if _POSITIONS in own and _POSITIONS in given and given[_POSITIONS].ndim == 3:
        given[_POSITIONS] = interpolate_positions(given[_POSITIONS], own[_POSITIONS].shape[1])
    covered = {own[name].data_ptr() for name in given if name in own}
    problems = {
        "unexpected": [name for name in given if name not in own],
        "missing": [n for n, t in own.items() if n not in given and t.data_ptr() not in covered],
        "of another shape": [
            f"{name} {tuple(t.shape)} instead of {tuple(own[name].shape)}"
            for name, t in given.items()
            if name in own and t.shape != own[name].shape
        ],
    }
    found = [f"{len(names)} {what} ({_some(names)})" for what, names in problems.items() if names]
    if found:
        raise ArtifactError(f"{source} does not fit the configuration: {'; '.join(found)}")
    model.load_state_dict(given, strict=False)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
