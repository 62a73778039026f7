"""Weights of other people's files, in whichever form: nothing that can run is ever unpickled.

A file is safetensors or what `torch.save` wrote. A folder in Hugging Face's form has one of them,
or an index that says in which of several files each weight is.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blip_edge.artifact import inside, read_json
from blip_edge.errors import ArtifactError
from blip_edge.models.weights import as_weights, read_weights, shortened

__all__ = ["read_file", "read_folder", "set_aside", "told"]

_NAMES = ("model.safetensors", "pytorch_model.bin")
# What training scripts put a state dict under, beside their optimiser and settings.
_KEYS = ("model", "state_dict")
# A zip archive since torch 1.6, a bare pickle before.
_BEGINNINGS = (b"PK\x03\x04", b"\x80")


def read_folder(folder: Path) -> tuple[dict[str, Tensor], list[Path]]:
    """The weights in a folder of Hugging Face's form, and the files that they were in.

    Safetensors are preferred where there are pickles beside them.

    Raises:
        ArtifactError: there are none, a file is damaged, or an index names what is not there.
    """
    for name in _NAMES:
        path, index = folder / name, folder / f"{name}.index.json"
        if path.is_file():
            return read_file(path), [path]
        if index.is_file():
            return _read_shards(folder, index)
    raise ArtifactError(f"{folder} holds no weights: neither {' nor '.join(_NAMES)}")


def _read_shards(folder: Path, index: Path) -> tuple[dict[str, Tensor], list[Path]]:
    document = read_json(index)
    where = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(where, dict) or not all(isinstance(file, str) for file in where.values()):
        raise ArtifactError(f"{index} does not say in which file each weight is")
    files = [inside(folder, file) for file in sorted(set(where.values()))]
    tensors: dict[str, Tensor] = {}
    for path in files:
        shard = read_file(path)
        if twice := sorted(tensors.keys() & shard.keys()):
            raise ArtifactError(f"{path}: {twice[0]} is in another file of {index.name} too")
        tensors |= shard
    if lost := sorted(where.keys() - tensors.keys()):
        raise ArtifactError(f"{index} names {lost[0]}, which is in none of its files")
    return tensors, files


def read_file(path: Path) -> dict[str, Tensor]:
    """The named weights of a safetensors file or of one that torch.save wrote, as float32.

    The latter may keep them under "model" or "state_dict".

    Raises:
        ArtifactError: the file is missing, damaged, wants to run something, or holds something
            else than names and finite numbers.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: there is no such file")
    if path.suffix == ".safetensors":
        return read_weights(path)
    values = _read_pickle(path)
    for key in _KEYS:
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    return as_weights(values, source=path)


def _read_pickle(path: Path) -> Any:
    """What torch.save wrote, if it is nothing but tensors and plain values."""
    try:
        with path.open("rb") as file:
            beginning = file.read(4)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from None
    if not beginning.startswith(_BEGINNINGS):
        raise ArtifactError(f"{path} is no file that torch.save wrote")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of archives of another kind, which are refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever a damaged file makes it raise
        raise ArtifactError(f"{path} {_reason(str(error) or type(error).__name__)}") from None


def _reason(message: str) -> str:
    """torch's words without its advice, which is to run what is in the file."""
    if found := re.search(r"GLOBAL (\S+)", message):
        return f"holds {found[1]}, which is no weight; what could run is not read"
    if "TorchScript" in message:
        return "is a TorchScript program; give a file of weights"
    if "Weights only" in message:
        return "cannot be read as weights: it is damaged, or holds something else"
    return f"cannot be read as weights: {message.splitlines()[0].split('. ')[0]}"


def set_aside(
    tensors: Mapping[str, Tensor], reasons: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """The tensors whose names fit none of the patterns in `reasons`, and the others' names."""
    kept: dict[str, Tensor] = {}
    left: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        why = next((why for pattern, why in reasons.items() if re.search(pattern, name)), None)
        if why is None:
            kept[name] = tensor
        else:
            left.setdefault(why, []).append(name)
    return kept, left


def told(left: Mapping[str, list[str]]) -> list[str]:
    """A line for each reason why tensors stay behind, with the first of their names."""
    return [
        f"left behind: {reason}, {len(names)} tensor{'s' if len(names) > 1 else ''} "
        f"({shortened(names)})"
        for reason, names in left.items()
    ]
