"""Weights in and out: every key accounted for, and nothing that can run is ever unpickled.

Nothing is dropped or left random silently: a key that the model does not know, a key that the file
lacks, a shape that differs and a copy that differs from its original are all listed in the error.
A few are harmless and pass: buffers that older files carry, and equal copies of tied weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from blip_edge.errors import ArtifactError
from blip_edge.models.blip import Blip
from blip_edge.models.config import BlipConfig
from blip_edge.models.vit import interpolate_positions

__all__ = [
    "as_weights",
    "load_state",
    "read_pickle",
    "read_weights",
    "restore",
    "save_weights",
    "shortened",
]

# Derived: our modules compute them, files of other origin may store them.
_HARMLESS = ("position_ids", "logit_scale")
# Tied to what stands beside it; files may hold both names, or either.
_TIED = {
    "text_decoder.cls.predictions.decoder.weight": (
        "text_decoder.bert.embeddings.word_embeddings.weight"
    ),
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}
_POSITIONS = "vision_model.embeddings.position_embedding"
# Kept in config.json, because the classes of `transformers` have no place for it.
_TEMPERATURE = "temp"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, as float32 on the CPU.

    They stay in the file until they are used, and are copied when they are changed.

    Raises:
        ArtifactError: the file is missing, not safetensors, or holds a NaN or an infinity.
    """
    if not Path(path).is_file():
        raise ArtifactError(f"{path} is missing; a model folder needs its weights")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is not a safetensors file: {error}") from None
    return as_weights(tensors, source=path)


def read_pickle(path: Path) -> Any:
    """What torch.save wrote, if it is nothing but tensors and plain values.

    Raises:
        ArtifactError: the file is missing, damaged, or wants to run something.
    """
    if not Path(path).is_file():
        raise ArtifactError(f"{path} is missing; give a file that torch.save wrote")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever a damaged file makes it raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{path} cannot be read as weights: {reason}") from None


def as_weights(values: object, *, source: Path | str) -> dict[str, Tensor]:
    """`values` if it maps names to tensors of finite numbers; halves become float32.

    Raises:
        ArtifactError: it is something else, or holds a NaN or an infinity; `source` is named.
    """
    if not isinstance(values, Mapping) or not values:
        raise ArtifactError(f"{source} holds no named weights")
    strange = [name for name, value in values.items() if not isinstance(value, Tensor)]
    if strange:
        raise ArtifactError(f"{source} holds more than named weights: {shortened(strange)}")
    for name, tensor in values.items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            raise ArtifactError(f"{source}: {name} holds values that are not finite numbers")
    return {n: t.float() if t.is_floating_point() else t for n, t in values.items()}


def _is_finite(tensor: Tensor) -> bool:
    # A sum reads each value once and makes no mask; only where it overflows is one needed.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def save_weights(model: nn.Module, path: Path) -> None:
    """Write `model`'s weights; tensors that are shared are stored once, under their first name."""
    seen: set[int] = set()
    stored = {}
    for name, tensor in model.state_dict().items():
        if name == _TEMPERATURE:
            continue
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            seen.add(tensor.data_ptr())
            stored[name] = tensor.detach().cpu().contiguous()
    save_file(stored, path, metadata={"format": "pt"})


def restore(config: BlipConfig, tensors: Mapping[str, Tensor], *, source: Path | str) -> Blip:
    """The BLIP of `config` around `tensors`, which it takes over and does not copy.

    Raises:
        ArtifactError: config and tensors contradict each other; see `load_state`.
    """
    with torch.device("meta"):  # weights that are replaced at once need not be drawn
        blip = Blip(config)
    load_state(blip, tensors, source=source)
    return blip


def load_state(blip: Blip, tensors: Mapping[str, Tensor], *, source: Path | str) -> None:
    """Put `tensors` into `blip`; `source` is named in errors.

    Position embeddings for another picture size are interpolated. The contrastive temperature,
    where the file does not have it, is the configuration's.

    Raises:
        ArtifactError: keys are unexpected, missing or of another shape, or copies of one weight
            differ; the first are named.
    """
    own = dict(blip.named_parameters(remove_duplicate=False))
    given, torn = _untied(tensors)
    if _TEMPERATURE in own:
        start = torch.tensor(blip.config.contrastive_temperature)
        given = {_TEMPERATURE: start, **given}
    if _POSITIONS in own and _POSITIONS in given and given[_POSITIONS].ndim == 3:
        given[_POSITIONS] = interpolate_positions(given[_POSITIONS], own[_POSITIONS].shape[1])
    first: dict[int, str] = {}  # a shared weight's first name that was given
    for name in given:
        if name in own and first.setdefault(id(own[name]), name) != name:
            original = given[first[id(own[name])]]
            torn += [] if torch.equal(given[name], original) else [name]
    problems = {
        "unexpected": [name for name in given if name not in own],
        "missing": [name for name, parameter in own.items() if id(parameter) not in first],
        "of another shape": [
            f"{name} {tuple(t.shape)} instead of {tuple(own[name].shape)}"
            for name, t in given.items()
            if name in own and t.shape != own[name].shape
        ],
        "unlike the weight that they share": torn,
    }
    found = [
        f"{len(names)} {what} ({shortened(names)})" for what, names in problems.items() if names
    ]
    if found:
        raise ArtifactError(f"{source} does not fit the configuration: {'; '.join(found)}")
    blip.load_state_dict(given, strict=False, assign=any(p.is_meta for p in own.values()))


def _untied(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Without what is harmless and without tied copies; and the copies that are none."""
    given = {name: t for name, t in tensors.items() if not name.endswith(_HARMLESS)}
    torn = []
    for copy, original in _TIED.items():
        if copy not in given:
            continue
        tensor = given.pop(copy)
        if not torch.equal(given.setdefault(original, tensor), tensor):
            torn.append(copy)
    return given, torn


def shortened(names: list[str]) -> str:
    """The first three of `names`, and whether there are more."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
