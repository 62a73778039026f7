"""`import`: other people's BLIP becomes a MODEL folder that needs nothing outside of it.

Sources are folders in Hugging Face's form, their names on the hub, and the `.pth` files that the
paper's authors released. What those leave to code is filled in: the two tokens [DEC] and [ENC]
that BLIP adds to BERT's vocabulary, the prompt and lengths that it captions with, and the
transform of its pictures.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from blip_edge import __version__
from blip_edge.artifact import Provenance, read_json, sha256_file, write_provenance, writing
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation
from blip_edge.models import hub, official
from blip_edge.models.config import ARCHITECTURES, BlipConfig
from blip_edge.models.folder import Model, save_model
from blip_edge.models.vocabulary import fitted, read_vocabulary
from blip_edge.models.weights import as_weights, read_pickle, read_weights, restore
from blip_edge.preprocess import Preprocess
from blip_edge.progress import SILENT, Progress
from blip_edge.text import Tokenizer

__all__ = ["import_model"]

_BERT = "google-bert/bert-base-uncased"


@dataclass(frozen=True)
class _Source:
    """What was found: sizes, weights under our names, and names that stay behind by reason."""

    weights: Path
    folder: Path
    config: BlipConfig
    tensors: dict[str, Tensor]
    left: dict[str, list[str]] = field(default_factory=dict)


def import_model(
    source: Path | str,
    output: Path,
    *,
    task: str | None = None,
    tokenizer: Path | None = None,
    image_size: int | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Write the BLIP in `source` to `output` as a MODEL folder.

    Args:
        source: a folder with config.json and model.safetensors or pytorch_model.bin, the
            `owner/name` of one on the Hugging Face hub, or an official `.pth`.
        output: the MODEL folder to write.
        task: what it is for: caption, retrieval, vqa, nlvr2 or pretrain. Needed for a config.json
            that names no architecture; of an official file it picks the parts.
        tokenizer: a vocab.txt, a tokenizer.json or a folder with one; by default what lies beside
            the weights, and for an official file else BERT's from the hub. A BERT vocabulary gets
            [DEC] and [ENC] appended.
        image_size: side of the pictures, in pixels; position embeddings are interpolated.
        force: replace `output` if it is there.
        progress: is told what stays behind.

    Raises:
        UsageError: an unknown task.
        ArtifactError: a file is missing or damaged, or config, weights and vocabulary do not fit.
    """
    started = time.monotonic()
    if task is not None and task not in ARCHITECTURES:
        raise UsageError(f"task {task!r} is none of {', '.join(ARCHITECTURES)}")
    with writing(output, force=force) as draft:
        found = _open(source, task)
        words, appended = read_vocabulary(_words_of(found, tokenizer))
        config = fitted(found.config, words, appended=appended, source=found.weights)
        if image_size is not None:
            vision = replace(config.vision_config, image_size=image_size)
            config = replace(config, vision_config=vision)
        blip = restore(config, found.tensors, source=found.weights)
        pixels, search = _preprocess(found.folder, config), _generation(found, words)
        save_model(draft, Model(blip, words, pixels, search))
        for reason, names in found.left.items():
            progress.say(f"left behind: {len(names)} tensors, {reason} ({names[0]}, …)")
        provenance = Provenance(
            verb="import",
            recipe={
                "task": task,
                "image_size": image_size,
                "left_behind": {reason: len(names) for reason, names in found.left.items()},
            },
            parents=[{"path": str(source), "sha256": sha256_file(found.weights)}],
            version=__version__,
            seconds=time.monotonic() - started,
        )
        write_provenance(draft, provenance)
    return output


def _open(source: Path | str, task: str | None) -> _Source:
    path = Path(source)
    if path.is_file():
        return _official(path, task)
    if path.is_dir():
        return _hugging_face(path, task)
    if hub.is_hub_id(str(source)):
        return _hugging_face(hub.fetch_model(str(source)), task)
    raise ArtifactError(f"{source}: there is no such file or folder")


def _official(path: Path, task: str | None) -> _Source:
    document = read_weights(path) if path.suffix == ".safetensors" else read_pickle(path)
    values = document.get("model", document) if isinstance(document, Mapping) else document
    tensors, left = official.split(as_weights(values, source=path))
    tensors = official.renamed(tensors)
    config = official.config_of(tensors, task=task, source=path)
    tensors, others = official.split(tensors, config.architecture)
    if "temp" in tensors:
        config = replace(config, contrastive_temperature=tensors["temp"].item())
    return _Source(path, path.parent, config, tensors, left | others)


def _hugging_face(folder: Path, task: str | None) -> _Source:
    config = _config(folder / "config.json", task)
    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    if safe.is_file() or not pickled.is_file():
        return _Source(safe, folder, config, read_weights(safe))
    tensors = as_weights(read_pickle(pickled), source=pickled)
    return _Source(pickled, folder, config, tensors)


def _config(path: Path, task: str | None) -> BlipConfig:
    values = read_json(path)
    if not isinstance(values, dict):
        raise ArtifactError(f"{path} is no model configuration")
    named = values.get("architectures")
    wanted = None if task is None else [ARCHITECTURES[task]]
    if wanted is not None and named and named != wanted:
        raise ArtifactError(f"{path}: the model is a {named[0]}, and {task} needs {wanted[0]}")
    return BlipConfig.from_json({**values, "architectures": named or wanted}, source=path)


def _words_of(found: _Source, tokenizer: Path | None) -> Path:
    if tokenizer is not None:
        return Path(tokenizer)
    beside = (found.folder / name for name in ("tokenizer.json", "vocab.txt"))
    if found.weights.name == "model.safetensors" or any(path.is_file() for path in beside):
        return found.folder
    try:
        return hub.fetch(_BERT, "vocab.txt")
    except ArtifactError as error:
        raise ArtifactError(
            f"{found.weights} has no vocabulary beside it; give BERT's: --tokenizer vocab.txt "
            f"({error})"
        ) from None


def _preprocess(folder: Path, config: BlipConfig) -> Preprocess:
    path = folder / "preprocessor_config.json"
    size = config.vision_config.image_size
    if not path.is_file():
        return Preprocess(size=size)
    # The position embeddings decide: they are stored for one size.
    return replace(Preprocess.from_json(read_json(path), source=path), size=size)


def _generation(found: _Source, words: Tokenizer) -> Generation:
    path = found.folder / "generation_config.json"
    saved: Any = read_json(path) if path.is_file() else {}
    if "prompt" in saved:  # written by us; other people's says nothing of how BLIP captions
        return Generation.from_json(saved, source=path)
    usual = Generation(bos_token_id=words.dec, eos_token_id=words.sep, pad_token_id=words.pad)
    if found.config.architecture == ARCHITECTURES["vqa"]:
        # The paper's code answers with 3 beams in 1 to 10 tokens, from [DEC] alone.
        return replace(usual, min_length=1, max_length=10, prompt="")
    return usual
