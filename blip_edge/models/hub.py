"""Files of public repositories on the Hugging Face hub, fetched once and kept in its cache."""

import re
from pathlib import Path

from blip_edge.errors import ArtifactError, import_extra

__all__ = ["fetch", "fetch_model", "is_hub_id"]

_DESCRIPTION = ("*.json", "vocab.txt")
_SAFETENSORS = ("model.safetensors", "model-*-of-*.safetensors")
_PICKLES = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")


def is_hub_id(name: str) -> bool:
    """Whether `name` could be `owner/name` on the hub."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None


def fetch_model(repository: str) -> Path:
    """A folder with the configuration, words and weights of `repository`, safetensors preferred.

    Raises:
        ArtifactError: there is no such repository, or the hub cannot be reached.
    """
    folder = fetch(repository, *_DESCRIPTION, *_SAFETENSORS)
    if any(folder.glob("*.safetensors")):
        return folder
    return fetch(repository, *_DESCRIPTION, *_PICKLES)


def fetch(repository: str, *patterns: str) -> Path:
    """A folder with the files of `repository` whose names fit one of `patterns`.

    Raises:
        ArtifactError: there is no such repository, or the hub cannot be reached.
    """
    hub = import_extra("huggingface_hub", "train")
    try:
        return Path(hub.snapshot_download(repository, allow_patterns=list(patterns)))
    except (OSError, ValueError, hub.errors.HTTPError) as error:  # of files, names, the network
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(
            f"{repository} cannot be fetched from the Hugging Face hub: {reason}"
        ) from None
