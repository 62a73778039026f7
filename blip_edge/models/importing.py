"""`import`: other people's BLIP becomes a MODEL folder that needs nothing outside of it.

Sources are folders in Hugging Face's form, their names on the hub, and the `.pth` files that the
paper's authors released. What those leave to code is filled in: the two tokens [DEC] and [ENC]
that BLIP adds to BERT's vocabulary, the prompt and lengths that it captions with, and the
transform of its pictures.
"""

import time
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
from blip_edge.models.reading import read_file, read_folder, told
from blip_edge.models.vocabulary import fitted, has_vocabulary, read_vocabulary
from blip_edge.models.weights import POSITIONS, restore
from blip_edge.preprocess import Preprocess
from blip_edge.progress import SILENT, Progress
from blip_edge.text import Tokenizer

__all__ = ["import_model"]

_BERT = "google-bert/bert-base-uncased"
# Where Hugging Face keeps what is done to pictures, and below which key: older files, newer ones.
_PIXELS: dict[str, str | None] = {
    "preprocessor_config.json": None,
    "processor_config.json": "image_processor",
}


@dataclass(frozen=True)
class _Source:
    """What was found: sizes, weights under our names, and names that stay behind by reason."""

    files: list[Path]
    config: BlipConfig
    tensors: dict[str, Tensor]
    left: dict[str, list[str]] = field(default_factory=dict)
    settings: Path | None = None
    """The folder with settings of pictures and search; beside an official file are others'."""

    @property
    def folder(self) -> Path:
        """Where the vocabulary may lie."""
        return self.files[0].parent


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
        source: a folder with config.json and weights in safetensors or pickled, in one file or in
            several with an index, the `owner/name` of one on the Hugging Face hub, or an official
            `.pth`.
        output: the MODEL folder to write.
        task: what it is for: caption, retrieval, vqa, nlvr2 or pretrain. Needed for a config.json
            that names no architecture; of a pre-trained model it takes the parts.
        tokenizer: a vocab.txt, a tokenizer.json or a folder with one; by default what lies beside
            the weights, else BERT's from the hub. A BERT vocabulary gets [DEC] and [ENC] appended.
        image_size: side of the pictures, in pixels; position embeddings are interpolated.
        force: replace `output` if it is there.
        progress: is told what stays behind.

    Raises:
        UsageError: an unknown task, or an image size that is no multiple of the patch size.
        ArtifactError: a file is missing or damaged, or config, weights and vocabulary do not fit.
    """
    started = time.monotonic()
    if task is not None and task not in ARCHITECTURES:
        raise UsageError(f"task {task!r} is none of {', '.join(ARCHITECTURES)}")
    with writing(output, force=force, reads=(source,)) as draft:
        found = _open(source, task)
        model = _model(found, tokenizer, image_size, progress)
        save_model(draft, model)
        for line in told(found.left):
            progress.say(line)
        recipe = {
            "task": task,
            "tokenizer": None if tokenizer is None else str(tokenizer),
            "image_size": image_size,
            "left_behind": {reason: len(names) for reason, names in found.left.items()},
        }
        provenance = Provenance(
            verb="import",
            recipe=recipe,
            parents=[{"path": str(source), "sha256": sha256_file(file)} for file in found.files],
            version=__version__,
            seconds=round(time.monotonic() - started, 2),
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
        return _hugging_face(_fetched(str(source)), task)
    raise ArtifactError(f"{source}: there is no such file or folder")


def _fetched(repository: str) -> Path:
    try:
        return hub.fetch_model(repository)
    except ArtifactError as error:
        raise ArtifactError(f"there is no file or folder {repository}; {error}") from None


def _official(path: Path, task: str | None) -> _Source:
    tensors, left = official.split(read_file(path))
    tensors = official.renamed(tensors)
    config = official.config_of(tensors, task=task, source=path)
    if "temp" in tensors and tensors["temp"].numel() == 1:
        config = replace(config, contrastive_temperature=tensors["temp"].item())
    tensors, others = official.split(tensors, config.architecture)
    return _Source([path], config, tensors, left | others)


def _hugging_face(folder: Path, task: str | None) -> _Source:
    path = folder / "config.json"
    values = read_json(path)
    if isinstance(values, dict) and not values.get("architectures") and task is not None:
        values = {**values, "architectures": [ARCHITECTURES[task]]}
    config = BlipConfig.from_json(values, source=path)
    tensors, files = read_folder(folder)
    wanted = config.architecture if task is None else ARCHITECTURES[task]
    if wanted == config.architecture:
        return _Source(files, config, tensors, settings=folder)
    if config.architecture != ARCHITECTURES["pretrain"] or task == "nlvr2":
        raise ArtifactError(f"{path}: the model is a {config.architecture}, {task} needs {wanted}")
    # What a pre-trained model shares is stored under one of its names; its parts have their own.
    whole = restore(config, tensors, source=files[0]).state_dict()
    used, left = official.split(whole, wanted)
    return _Source(files, replace(config, architecture=wanted), used, left, settings=folder)


def _model(
    found: _Source, tokenizer: Path | None, image_size: int | None, progress: Progress
) -> Model:
    """`found` with its words, pixels and search."""
    words, appended = read_vocabulary(_words_of(found, tokenizer, progress))
    text = fitted(
        found.config.text_config,
        words,
        appended=appended,
        source=found.files[0],
        hint=": --tokenizer vocab.txt",
    )
    vision = found.config.vision_config
    if image_size is not None:
        vision = vision.resized(image_size)
    config = replace(found.config, vision_config=vision, text_config=text)
    stored, tokens = found.tensors.get(POSITIONS), vision.num_tokens
    blip = restore(config, found.tensors, source=found.files[0])
    if stored is not None and stored.shape[1] != tokens:
        progress.say(f"position embeddings: {stored.shape[1]} interpolated to {tokens}")
    return Model(blip, words, _preprocess(found, config), _generation(found, words))


def _words_of(found: _Source, tokenizer: Path | None, progress: Progress) -> Path:
    if tokenizer is not None:
        return Path(tokenizer)
    if has_vocabulary(found.folder):
        return found.folder
    progress.say(f"no vocabulary beside {found.files[0].name}: {_BERT}'s is taken")
    try:
        return hub.fetch(_BERT, "vocab.txt") / "vocab.txt"
    except ArtifactError as error:
        raise ArtifactError(
            f"{found.files[0]} has no vocabulary beside it; give BERT's: --tokenizer vocab.txt "
            f"({error})"
        ) from None


def _preprocess(found: _Source, config: BlipConfig) -> Preprocess:
    size = config.vision_config.image_size
    for name, of in _PIXELS.items():
        path = None if found.settings is None else found.settings / name
        if path is not None and path.is_file():
            told = read_json(path)
            settings: Any = told.get(of) if of and isinstance(told, dict) else told
            # The position embeddings decide: they are stored for one size.
            return replace(Preprocess.from_json(settings, source=path), size=size)
    return Preprocess(size=size)


def _generation(found: _Source, words: Tokenizer) -> Generation:
    path = None if found.settings is None else found.settings / "generation_config.json"
    saved: Any = read_json(path) if path is not None and path.is_file() else {}
    if isinstance(saved, dict) and "prompt" in saved:
        # Written by us; other people's says nothing of how BLIP captions.
        return Generation.from_json(saved, source=path or "")
    usual = Generation(bos_token_id=words.dec, eos_token_id=words.sep, pad_token_id=words.pad)
    if found.config.architecture == ARCHITECTURES["vqa"]:
        # The paper's code answers with 3 beams in 1 to 10 tokens, from [DEC] alone.
        return replace(usual, min_length=1, max_length=10, prompt="")
    return usual
