"""A MODEL folder to one that `transformers` opens, proved by opening it.

The contrastive temperature, which its classes have no place for, travels in config.json.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from blip_edge import __version__
from blip_edge.artifact import Provenance, sha256_folder, write_provenance, writing
from blip_edge.errors import ArtifactError, import_extra
from blip_edge.models.config import BlipConfig
from blip_edge.models.folder import Model, load_model, save_model
from blip_edge.models.quantized import Quantization
from blip_edge.models.weights import shortened

__all__ = ["export_huggingface"]

_README = "README.md"
# Parameters of ours that config.json holds.
_ELSEWHERE = frozenset({"temp"})


def export_huggingface(model: Path, output: Path, *, force: bool = False) -> Path:
    """Write `model` as a folder for `from_pretrained`, every weight compared after reading.

    Raises:
        ArtifactError: the classes of `transformers` cannot hold this model, or it is quantized.
        MissingExtraError: transformers is not installed.
    """
    started = time.monotonic()
    transformers = import_extra("transformers", "train")
    loaded = load_model(model)
    config = loaded.config
    if config.model_type != "blip":
        raise ArtifactError(f"{model}: {_why_not(config)}")
    if Quantization.is_in(model):
        raise ArtifactError(
            f"{model}: transformers does not read quantization.json; export the float model"
        )
    with writing(output, force=force, reads=(model,)) as draft:
        save_model(draft, loaded)
        if (model / _README).is_file():
            shutil.copyfile(model / _README, draft / _README)
        with _without_bars():
            opened, report = getattr(transformers, config.architecture).from_pretrained(
                draft, output_loading_info=True
            )
        _compare(loaded, opened, report, model)
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


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the progress bars of `transformers` off stderr, which is for us to talk on."""
    logging: Any = import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _why_not(config: BlipConfig) -> str:
    """What the classes of `transformers` lack for a model, and what to do about it."""
    vision, text = config.vision_config, config.text_config
    if vision.num_output_tokens < vision.num_tokens:
        return (
            "transformers has no image tower of BLIP that merges tokens; export to another target"
        )
    match config.architecture:
        case "BlipForPreTraining":
            return (
                "transformers has no class of pre-trained BLIP; take a part of it with "
                "`blip-edge import --task caption` or `--task retrieval`"
            )
        case "BlipForImagesAndTextClassification":
            return "transformers has no class of BLIP that looks at two pictures"
        case "BlipForQuestionAnswering" if vision.hidden_size != text.hidden_size:
            return (
                f"the image tower is {vision.hidden_size} wide and the text tower "
                f"{text.hidden_size}; transformers answers questions with towers of one width"
            )
    return (
        "the classes of transformers have the same heads and widths in every layer; prune with "
        "--even, or export to another target"
    )


@torch.inference_mode()
def _compare(loaded: Model, opened: Any, report: dict[str, Any], source: Path) -> None:
    """Every weight of ours must be in what transformers read, unchanged, and nothing else."""
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(str(name) for name in report.get(what) or ()):
            raise ArtifactError(f"{source}: transformers has {what}: {shortened(names)}")
    theirs = opened.state_dict()
    for name, tensor in loaded.blip.state_dict().items():
        if name in _ELSEWHERE:
            continue
        if name not in theirs or not torch.equal(theirs[name], tensor):
            raise ArtifactError(f"{source}: transformers reads {name} differently")
