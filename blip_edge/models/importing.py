"""`import`: a folder in Hugging Face's form becomes a MODEL folder that needs nothing outside.

What such folders leave to the code of `transformers` is filled in: the two tokens [DEC] and [ENC]
that BLIP adds to BERT's vocabulary, the prompt and lengths that it captions with, and the
transform of its pictures.
"""

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from blip_edge import __version__
from blip_edge.artifact import Provenance, read_json, sha256_file, write_provenance, writing
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation
from blip_edge.models.blip import build
from blip_edge.models.config import BlipConfig
from blip_edge.models.folder import Model, save_model
from blip_edge.models.weights import load_state, read_weights
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer

__all__ = ["import_model"]

_ARCHITECTURES = {
    "caption": "BlipForConditionalGeneration",
    "retrieval": "BlipForImageTextRetrieval",
    "pretrain": "BlipForPreTraining",
}


def import_model(
    source: Path,
    output: Path,
    *,
    task: str | None = None,
    tokenizer: Path | None = None,
    force: bool = False,
) -> Path:
    """Write the BLIP in `source` to `output` as a MODEL folder.

    Args:
        source: a folder with config.json and model.safetensors or pytorch_model.bin.
        output: the MODEL folder to write.
        task: caption, retrieval or pretrain, for a config.json that names no architecture.
        tokenizer: a vocab.txt, a tokenizer.json or a folder with one; by default `source`. A BERT
            vocabulary gets [DEC] and [ENC] appended.
        force: replace `output` if it is there.

    Raises:
        UsageError: an unknown task.
        ArtifactError: a file is missing or damaged, or config, weights and vocabulary do not fit.
    """
    started = time.monotonic()
    source = Path(source)
    config = _config(source, task)
    words = _tokenizer(Path(tokenizer) if tokenizer is not None else source)
    config = _fitted(config, words, source)
    with writing(output, force=force) as draft:
        blip = build(config)
        weights, tensors = _weights(source)
        load_state(blip, tensors, source=weights)
        pixels, search = _preprocess(source, config), _generation(source, words)
        save_model(draft, Model(blip, words, pixels, search))
        provenance = Provenance(
            verb="import",
            recipe={},
            parents=[{"path": str(source), "sha256": sha256_file(weights)}],
            version=__version__,
            seconds=time.monotonic() - started,
        )
        write_provenance(draft, provenance)
    return output


def _config(source: Path, task: str | None) -> BlipConfig:
    if task is not None and task not in _ARCHITECTURES:
        raise UsageError(f"task {task!r} is none of {', '.join(_ARCHITECTURES)}")
    path = source / "config.json"
    values = read_json(path)
    if not isinstance(values, dict):
        raise ArtifactError(f"{path} is no model configuration")
    if task is not None and not values.get("architectures"):
        values["architectures"] = [_ARCHITECTURES[task]]
    return BlipConfig.from_json(values, source=path)


def _fitted(config: BlipConfig, words: Tokenizer, source: Path) -> BlipConfig:
    """`config` with the special ids of `words`, which its embedding must have room for."""
    text = config.text_config
    if words.vocab_size > text.vocab_size:
        raise ArtifactError(
            f"{source}: the model embeds {text.vocab_size} words, the vocabulary has "
            f"{words.vocab_size}; give the one it was trained with: --tokenizer vocab.txt"
        )
    text = replace(text, bos_token_id=words.dec, pad_token_id=words.pad, sep_token_id=words.sep)
    return replace(config, text_config=text)


def _weights(source: Path) -> tuple[Path, dict[str, Tensor]]:
    safe, pickled = source / "model.safetensors", source / "pytorch_model.bin"
    if safe.is_file() or not pickled.is_file():
        return safe, read_weights(safe)
    try:
        # weights_only: a pickle that wants to run something is refused, not run.
        tensors = torch.load(pickled, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever a damaged file makes it raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{pickled} cannot be read as weights: {reason}") from None
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise ArtifactError(f"{pickled} holds something else than named weights")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ArtifactError(f"{pickled}: {name} holds values that are not finite numbers")
    return pickled, {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}


def _tokenizer(source: Path) -> Tokenizer:
    if source.is_dir():
        ours = source / "tokenizer.json"
        source = source / "vocab.txt" if not ours.is_file() else ours
    if source.suffix == ".txt" or not source.is_file():
        return Tokenizer.from_vocab(source)
    vocab = _vocab(read_json(source), source)
    if "[DEC]" in vocab:
        return Tokenizer.load(source)
    with TemporaryDirectory() as scratch:
        words = Path(scratch) / "vocab.txt"
        words.write_text("\n".join(sorted(vocab, key=lambda word: vocab[word])), encoding="utf-8")
        return Tokenizer.from_vocab(words)


def _vocab(document: Any, source: Path) -> dict[str, int]:
    """Word to id, of the model and of the tokens added to it."""
    try:
        added = {token["content"]: token["id"] for token in document.get("added_tokens") or []}
        return {**document["model"]["vocab"], **added}
    except (AttributeError, KeyError, TypeError):
        raise ArtifactError(f"{source} is not a tokenizer") from None


def _preprocess(source: Path, config: BlipConfig) -> Preprocess:
    path = source / "preprocessor_config.json"
    size = config.vision_config.image_size
    if not path.is_file():
        return Preprocess(size=size)
    # The position embeddings decide: they are stored for one size.
    return replace(Preprocess.from_json(read_json(path), source=path), size=size)


def _generation(source: Path, words: Tokenizer) -> Generation:
    path = source / "generation_config.json"
    saved = read_json(path) if path.is_file() else {}
    if "prompt" in saved:  # written by us; other people's says nothing of how BLIP captions
        return Generation.from_json(saved, source=path)
    return Generation(bos_token_id=words.dec, eos_token_id=words.sep, pad_token_id=words.pad)
