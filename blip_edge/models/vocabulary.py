"""Words of other people's models: a BERT vocabulary becomes BLIP's, if it is the right one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from blip_edge.artifact import read_json
from blip_edge.errors import ArtifactError
from blip_edge.models.config import TextConfig
from blip_edge.text import Tokenizer, listed_words

__all__ = ["fitted", "has_vocabulary", "read_vocabulary"]

_FILES = ("tokenizer.json", "vocab.txt")
_OURS = frozenset({"[DEC]", "[ENC]"})
# For the sake of matrix kernels an embedding may have spare rows, fewer than the larger of these,
# up to a multiple of the smaller.
_SPARE, _ALIGNED = 128, 8


def has_vocabulary(folder: Path) -> bool:
    """Whether there is a vocabulary in `folder`."""
    return any((folder / name).is_file() for name in _FILES)


def read_vocabulary(source: Path) -> tuple[Tokenizer, bool]:
    """The tokenizer in a vocab.txt, a tokenizer.json or a folder with one of them.

    A vocabulary without [DEC] and [ENC] gets them appended; the second value says whether it did.

    Raises:
        ArtifactError: the file is missing, or is no BERT vocabulary of lower-case words.
    """
    if source.is_dir():
        source /= next((name for name in _FILES if (source / name).is_file()), _FILES[-1])
    config = source.with_name("tokenizer_config.json")
    settings = read_json(config) if config.is_file() else {}
    if isinstance(settings, dict) and settings.get("do_lower_case") is False:
        raise ArtifactError(f"{config}: the vocabulary is cased; BLIP reads lower case alone")
    if source.suffix != ".json":
        words = listed_words(source)
    else:
        words = _numbered(read_json(source), source)
        if _OURS.issubset(words):
            return Tokenizer.load(source), False
    return Tokenizer.from_words(words, source=source), not _OURS.issubset(words)


def _numbered(document: Any, source: Path) -> list[str]:
    """The words of a tokenizer.json by id, those that were added to its model included."""
    try:
        model, normalizer = document["model"], document.get("normalizer") or {}
        added = {token["content"]: token["id"] for token in document.get("added_tokens") or []}
        vocab: dict[str, int] = {**model["vocab"], **added}
        kind, cased = model.get("type", "WordPiece"), normalizer.get("lowercase") is False
        words = sorted(vocab, key=lambda word: vocab[word])
    except (AttributeError, KeyError, TypeError):
        raise ArtifactError(f"{source} is not a tokenizer of words by number") from None
    if kind != "WordPiece":
        raise ArtifactError(f"{source} is a {kind} tokenizer; BLIP's is BERT's, a WordPiece")
    if cased:
        raise ArtifactError(f"{source}: the vocabulary is cased; BLIP reads lower case alone")
    if [vocab[word] for word in words] != list(range(len(words))):
        raise ArtifactError(f"{source}: its ids are not 0 to {len(words) - 1}, each once")
    return words


def fitted(
    text: TextConfig, words: Tokenizer, *, appended: bool, source: Path | str, hint: str = ""
) -> TextConfig:
    """`text` with the special ids of `words`, which its embedding must have room for.

    Where [DEC] and [ENC] were `appended`, their ids are right only if nothing is missing before
    them: the vocabulary must fill the embedding.

    Raises:
        ArtifactError: the vocabulary is another model's; `source` and what to do are named.
    """
    slack = text.vocab_size - words.vocab_size
    spare = not appended and 0 < slack < _SPARE and text.vocab_size % _ALIGNED == 0
    if slack and not spare:
        counted = "with [DEC] and [ENC] appended " if appended else ""
        raise ArtifactError(
            f"{source}: the model embeds {text.vocab_size} words, the vocabulary {counted}has "
            f"{words.vocab_size}; give the one that it was trained with{hint}"
        )
    return replace(text, bos_token_id=words.dec, pad_token_id=words.pad, sep_token_id=words.sep)
