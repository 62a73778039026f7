"""Weights in and out: every key accounted for.

Nothing is dropped or left random silently: a key that the model does not know, a key that the file
lacks, a shape that differs and a copy that differs from its original are all listed in the error.
A few are harmless and pass: buffers that older files carry, and equal copies of tied weights.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from blip_edge.errors import ArtifactError
from blip_edge.models.blip import Blip
from blip_edge.models.config import BlipConfig
from blip_edge.models.vit import interpolate_positions

__all__ = [
    "POSITIONS",
    "as_weights",
    "blank",
    "fill",
    "load_state",
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

POSITIONS = "vision_model.embeddings.position_embedding"
"""The weight whose shape depends on the size of pictures."""

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


def as_weights(values: object, *, source: Path | str) -> dict[str, Tensor]:
    """`values` if it maps names to tensors of finite numbers; other floats become float32.

    Raises:
        ArtifactError: it is something else, or holds a NaN or an infinity; `source` is named.
    """
    if not isinstance(values, Mapping) or not values:
        raise ArtifactError(f"{source} holds no named weights")
    strange = [str(name) for name, value in values.items() if not _is_weight(name, value)]
    if strange:
        raise ArtifactError(f"{source} holds more than named weights: {shortened(strange)}")
    tensors: dict[str, Tensor] = {}
    for name, value in values.items():
        # Views that repeat one number in memory cannot be trained.
        tensor = value.detach().contiguous()
        tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
        if tensor.is_floating_point() and not _is_finite(tensors[name]):
            raise ArtifactError(f"{source}: {name} holds values that are not finite numbers")
    return tensors


def _is_weight(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, Tensor):
        return False
    return value.layout == torch.strided and not value.is_meta and not value.is_quantized


def _is_finite(tensor: Tensor) -> bool:
    # A sum reads each value once and makes no mask; only where it overflows is one needed. It is
    # numpy's, because torch starts threads for it, which cost more than they read.
    with np.errstate(over="ignore", invalid="ignore"):
        total = tensor.numpy().sum()
    return bool(np.isfinite(total)) or bool(torch.isfinite(tensor).all())


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
    path.touch()
    mode = path.stat().st_mode
    save_file(stored, path, metadata={"format": "pt"})
    path.chmod(mode)  # safetensors leaves its file to the owner alone


class _Undrawn(TorchFunctionMode):
    """Leaves fresh weights as they are.

    To draw numbers on the meta device torch imports its compiler, which takes seconds.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_):
            return kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def blank(config: BlipConfig) -> Blip:
    """A BLIP whose weights have names and shapes, and no contents."""
    with torch.device("meta"), _Undrawn():
        return Blip(config)


def restore(config: BlipConfig, tensors: Mapping[str, Tensor], *, source: Path | str) -> Blip:
    """The BLIP of `config` around `tensors`, which it takes over and does not copy.

    Raises:
        ArtifactError: config and tensors contradict each other; see `load_state`.
    """
    blip = blank(config)
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
    given, torn = _untied(tensors)
    if blip.config.parts.compares:
        start = torch.tensor(blip.config.contrastive_temperature)
        given = {_TEMPERATURE: start, **given}
    positions = given.get(POSITIONS)
    # What is no grid at all is of another shape, and is listed as such.
    if positions is not None and positions.ndim == 3 and positions.shape[1] > 1:
        try:
            tokens = blip.config.vision_config.num_tokens
            given[POSITIONS] = interpolate_positions(positions, tokens)
        except ArtifactError as error:
            raise ArtifactError(f"{source}: {POSITIONS}: {error}") from None
    fill(blip, given, source=source, torn=torn)


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: Path | str,
    fresh: str | None = None,
    torn: Sequence[str] = (),
) -> None:
    """Put `tensors` into the parameters of `module` of the same names.

    Args:
        module: on the meta device it takes the tensors over, elsewhere their values.
        tensors: one for each name; where parameters are shared, one for either name is enough.
        source: is named in errors.
        fresh: a pattern of names that may be missing and then keep what they have.
        torn: copies that were found to differ from their original.

    Raises:
        ArtifactError: as of `load_state`.
    """
    own = dict(module.named_parameters(remove_duplicate=False))
    problems = _misfits(own, tensors, re.compile(fresh or r"(?!)"))
    problems["unlike the weight that they share"] += torn
    found = [
        f"{len(names)} {what} ({shortened(names)})" for what, names in problems.items() if names
    ]
    if found:
        raise ArtifactError(f"{source} does not fit the configuration: {'; '.join(found)}")
    takes_over = any(parameter.is_meta for parameter in own.values())
    given = _apart(tensors, own) if takes_over else tensors
    module.load_state_dict(given, strict=False, assign=takes_over)


def _misfits(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], may_lack: re.Pattern[str]
) -> dict[str, list[str]]:
    """By kind of mistake, the names of what is wrong with `given`."""
    first: dict[int, str] = {}  # a shared weight's first name that was given
    known = [name for name in given if name in own]
    originals = {name: first.setdefault(id(own[name]), name) for name in known}
    return {
        "unexpected": [name for name in given if name not in own],
        "missing": [
            name
            for name, parameter in own.items()
            if id(parameter) not in first and not may_lack.search(name)
        ],
        "of another shape": [
            f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
            for name in known
            if given[name].shape != own[name].shape
        ],
        "of whole numbers": [name for name in known if not given[name].is_floating_point()],
        "unlike the weight that they share": [
            name
            for name, original in originals.items()
            if name != original and not torch.equal(given[name], given[original])
        ],
    }


def _apart(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`given`, a copy where two weights that are not shared lie in one place of memory.

    Tied weights of a pre-trained model lie so, and become two weights in one that answers.
    """
    owner: dict[int, int] = {}
    return {
        name: tensor
        if owner.setdefault(tensor.data_ptr(), id(own[name])) == id(own[name])
        else tensor.clone()
        for name, tensor in given.items()
    }


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
