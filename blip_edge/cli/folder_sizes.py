"""The sizes of the network in a MODEL folder, whose weights are not read."""

from pathlib import Path
from typing import Any

from blip_edge.artifact import kind, read_json
from blip_edge.errors import ArtifactError

__all__ = ["sizes_of"]


def sizes_of(folder: Path, flag: str) -> Any:
    """The BlipConfig of a model; `flag` is what needs it.

    Raises:
        ArtifactError: the folder is no model, or its config.json is damaged.
    """
    from blip_edge.models.config import BlipConfig

    if (what := kind(folder)) != "model":
        raise ArtifactError(f"{folder} is a {what} folder; {flag} is of a MODEL")
    path = folder / "config.json"
    return BlipConfig.from_json(read_json(path), source=path)
