"""A pretrained BERT of Hugging Face's form, from which a new BLIP's text towers start.

BLIP's own began as BERT base (paper, section 4.1). Self-attention, feed-forward networks and
embeddings come along, and the head where there is one; cross-attention is BLIP's own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blip_edge.artifact import read_json
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models.blip import Blip
from blip_edge.models.config import TextConfig
from blip_edge.models.reading import read_folder, set_aside
from blip_edge.models.vocabulary import fitted, read_vocabulary
from blip_edge.models.weights import fill
from blip_edge.text import Tokenizer

__all__ = ["TextTower", "read_text_tower"]

_LEFT = {
    r"^pooler\.": "pooler",
    r"^cls\.seq_relationship\.": "head for the next sentence",
    r"^(classifier|qa_outputs)\.": "head of another task",
    r"\.crossattention\.": "cross-attention to something else",
}
_BUFFERS = ("position_ids", "token_type_ids")
_WORDS = "embeddings.word_embeddings.weight"
_POSITIONS = "embeddings.position_embeddings.weight"
_SEGMENTS = "embeddings.token_type_embeddings.weight"
_HEAD = "cls.predictions."
# Of what is drawn for new words, as BERT's own were.
_DEVIATION = 0.02


@dataclass(frozen=True)
class TextTower:
    """A BERT under our names, those of one tower, and the words that it reads."""

    source: Path
    config: TextConfig
    tensors: dict[str, Tensor]
    words: Tokenizer
    left: dict[str, list[str]]
    """Names that stay behind, by reason."""
    appended: bool
    """Whether [DEC] and [ENC] are new to it."""

    @property
    def has_head(self) -> bool:
        """Whether it predicts words."""
        return any(name.startswith(_HEAD) for name in self.tensors)

    def plant(self, blip: Blip) -> None:
        """Put it into the encoder and the decoder of `blip`, which has its sizes.

        Cross-attention, which it has not, stays as it is, and so does the language-model head of
        one that predicts no words.

        Raises:
            ArtifactError: keys are unexpected, missing or of another shape.
        """
        parts = blip.config.parts
        given: dict[str, Tensor] = {}
        for name, tensor in self.tensors.items():
            head = name.startswith(_HEAD)
            if parts.encoder and not head:
                given[f"text_encoder.{name}"] = tensor
            if parts.decoder:
                given[f"text_decoder.{name}" if head else f"text_decoder.bert.{name}"] = tensor
        fresh = r"^(?!text_encoder\.|text_decoder\.)|\.crossattention\."
        if not self.has_head:
            fresh += r"|^text_decoder\.cls\."
        fill(blip, given, source=self.source, fresh=fresh)


def read_text_tower(folder: Path) -> TextTower:
    """The BERT in a folder of Hugging Face's form, with its vocabulary.

    [DEC] and [ENC] are appended to its words. The embedding of a text's first segment, which every
    token gets, is folded into the positions'.

    Raises:
        ArtifactError: a file is missing or damaged, or it is no BERT that BLIP's text tower can be.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder; give one with a BERT's config.json")
    text = _text_config(folder / "config.json")
    stored, files = read_folder(folder)
    named = {_bert_name(n): t for n, t in stored.items() if not n.endswith(_BUFFERS)}
    tensors, left = set_aside(named, _LEFT)
    if len(tensors.get(_SEGMENTS, ())) > 1:
        left["segments but the first"] = [_SEGMENTS]
    tensors = _without_segments(_untied(tensors, files[0]), files[0])
    words, appended = read_vocabulary(folder)
    if appended:
        tensors = _with_two_words(tensors)
        text = replace(text, vocab_size=text.vocab_size + 2)
    text = fitted(text, words, appended=appended, source=folder)
    return TextTower(files[0], text, tensors, words, left, appended)


def _bert_name(name: str) -> str:
    # Files that were converted from the first release have TensorFlow's names of a norm's weights.
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name.removeprefix("bert."))
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def _text_config(path: Path) -> TextConfig:
    values = read_json(path)
    if not isinstance(values, dict) or values.get("model_type") != "bert":
        kind = values.get("model_type") if isinstance(values, dict) else None
        raise ArtifactError(f"{path}: model_type {kind!r} is not 'bert'")
    for key, ours in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if values.get(key, ours) != ours:
            raise ArtifactError(f"{path}: {key} {values[key]!r}; BLIP's is {ours}")
    epsilon = values.get("layer_norm_eps", 1e-12)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float):
        raise ArtifactError(f"{path}: layer_norm_eps {epsilon!r} is not a number")
    try:
        return TextConfig(
            vocab_size=_whole(values, "vocab_size", path),
            max_position_embeddings=_whole(values, "max_position_embeddings", path),
            hidden_size=_whole(values, "hidden_size", path),
            num_hidden_layers=_whole(values, "num_hidden_layers", path),
            num_attention_heads=_whole(values, "num_attention_heads", path),
            intermediate_size=_whole(values, "intermediate_size", path),
            layer_norm_eps=epsilon,
        )
    except UsageError as error:
        raise ArtifactError(f"{path}: {error}") from None


def _whole(values: Mapping[str, Any], key: str, path: Path) -> int:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArtifactError(f"{path}: {key} {value!r} is not a whole number")
    return value


def _untied(tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Without the copies of the language-model head's tied weights."""
    for copy, original in (
        (f"{_HEAD}decoder.weight", _WORDS),
        (f"{_HEAD}decoder.bias", f"{_HEAD}bias"),
    ):
        if copy not in tensors:
            continue
        tensor = tensors.pop(copy)
        if not torch.equal(tensors.setdefault(original, tensor), tensor):
            raise ArtifactError(f"{source}: {copy} is unlike {original}; BLIP ties the two")
    return tensors


def _without_segments(tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    types, positions = tensors.pop(_SEGMENTS, None), tensors.get(_POSITIONS)
    if types is None or positions is None:
        return tensors
    if types.ndim != 2 or not len(types) or types.shape[1:] != positions.shape[1:]:
        raise ArtifactError(f"{source}: {_SEGMENTS} {tuple(types.shape)} does not fit {_POSITIONS}")
    return {**tensors, _POSITIONS: positions + types[0]}


def _with_two_words(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """With rows for [DEC] and [ENC], drawn, and no preference for saying them."""
    larger = dict(tensors)
    if (words := tensors.get(_WORDS)) is not None and words.ndim == 2:
        fresh = nn.init.trunc_normal_(words.new_empty(2, words.shape[1]), std=_DEVIATION)
        larger[_WORDS] = torch.cat([words, fresh])
    if (bias := tensors.get(f"{_HEAD}bias")) is not None and bias.ndim == 1:
        larger[f"{_HEAD}bias"] = torch.cat([bias, bias.new_zeros(2)])
    return larger
