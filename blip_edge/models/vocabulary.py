"""Words of other people's models: a BERT vocabulary becomes BLIP's, if it is the right one."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blip_edge.artifact import read_json
from blip_edge.errors import ArtifactError
from blip_edge.models.config import BlipConfig
from blip_edge.text import Tokenizer

__all__ = ["fitted", "read_vocabulary"]

# An embedding may be padded to a multiple of this many rows, for the sake of matrix kernels.
_PADDED = 128


def read_vocabulary(source: Path) -> tuple[Tokenizer, bool]:
    """The tokenizer in a vocab.txt, a tokenizer.json or a folder with one of them.

    A vocabulary without [DEC] and [ENC] gets them appended; the second value says whether it did.

    Raises:
        ArtifactError: the file is missing, or is no BERT vocabulary.
    """
    if source.is_dir():
        ours = source / "tokenizer.json"
        source = source / "vocab.txt" if not ours.is_file() else ours
    if source.suffix == ".txt" or not source.is_file():
        words = Tokenizer.from_vocab(source)
        with source.open(encoding="utf-8") as file:
            return words, words.vocab_size > sum(1 for _ in file)
    vocab = _vocab(read_json(source), source)
    if "[DEC]" in vocab:
        return Tokenizer.load(source), False
    with TemporaryDirectory() as scratch:
        plain = Path(scratch) / "vocab.txt"
        plain.write_text("\n".join(sorted(vocab, key=lambda word: vocab[word])), encoding="utf-8")
        return Tokenizer.from_vocab(plain), True


def _vocab(document: Any, source: Path) -> dict[str, int]:
    """Word to id, of the model and of the tokens added to it."""
    try:
        added = {token["content"]: token["id"] for token in document.get("added_tokens") or []}
        return {**document["model"]["vocab"], **added}
    except (AttributeError, KeyError, TypeError):
        raise ArtifactError(f"{source} is not a tokenizer") from None


def fitted(
    config: BlipConfig, words: Tokenizer, *, appended: bool, source: Path | str
) -> BlipConfig:
    """`config` with the special ids of `words`, which its embedding must have room for.

    Where [DEC] and [ENC] were `appended`, their ids are right only if nothing is missing before
    them: the vocabulary must fill the embedding.

    Raises:
        ArtifactError: the vocabulary is another model's; `source` is named.
    """
    text = config.text_config
    slack = text.vocab_size - words.vocab_size
    if slack < 0 or slack >= _PADDED or (appended and slack):
        counted = "with [DEC] and [ENC] appended " if appended else ""
        raise ArtifactError(
            f"{source}: the model embeds {text.vocab_size} words, the vocabulary {counted}has "
            f"{words.vocab_size}; give the one it was trained with: --tokenizer vocab.txt"
        )
    text = replace(text, bos_token_id=words.dec, pad_token_id=words.pad, sep_token_id=words.sep)
    return replace(config, text_config=text)
