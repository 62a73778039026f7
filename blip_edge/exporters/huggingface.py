"""A MODEL folder to one that `transformers` opens, proved by opening it."""

import shutil
import time
from pathlib import Path

import torch

from blip_edge import __version__
from blip_edge.artifact import Provenance, sha256_folder, write_provenance, writing
from blip_edge.errors import ArtifactError, import_extra
from blip_edge.models.folder import Model, load_model, save_model
from blip_edge.models.quantized import Quantization

__all__ = ["export_huggingface"]

_README = "README.md"


def export_huggingface(model: Path, output: Path, *, force: bool = False) -> Path:
    """Write `model` as a folder for `from_pretrained`, weights and logits compared after reading.

    Raises:
        ArtifactError: the classes of `transformers` cannot hold this model, or it is quantized.
        MissingExtraError: transformers is not installed.
    """
    started = time.monotonic()
    transformers = import_extra("transformers", "train")
    loaded = load_model(model)
    config = loaded.config
    if config.model_type != "blip":
        raise ArtifactError(
            f"{model}: the classes of transformers have the same heads and widths in every layer "
            "and no pre-training model; prune with --even, or export to another target"
        )
    if Quantization.is_in(model):
        raise ArtifactError(
            f"{model}: transformers does not read quantization.json; export the float model"
        )
    with writing(output, force=force) as draft:
        save_model(draft, loaded)
        if (model / _README).is_file():
            shutil.copyfile(model / _README, draft / _README)
        opened = getattr(transformers, config.architecture).from_pretrained(draft)
        _compare(loaded, opened.eval(), model)
        parent = {"path": str(model), "sha256": sha256_folder(model)}
        seconds = round(time.monotonic() - started, 2)
        told = {"target": "huggingface"}
        write_provenance(
            draft,
            Provenance(
                verb="export", recipe=told, parents=[parent], version=__version__, seconds=seconds
            ),
        )
    return output


@torch.inference_mode()
def _compare(loaded: Model, opened: torch.nn.Module, source: Path) -> None:
    """Every weight of ours must be in what transformers read, unchanged."""
    theirs = opened.state_dict()
    for name, tensor in loaded.blip.state_dict().items():
        if name not in theirs or not torch.equal(theirs[name], tensor):
            raise ArtifactError(f"{source}: transformers reads {name} differently")
