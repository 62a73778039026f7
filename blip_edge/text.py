"""Words to ids and back, with BLIP's two extra tokens, without torch or transformers.

BLIP tokenises normally, `[CLS] … [SEP]`, and then overwrites the first id: `[ENC]` for the
image-grounded encoder, `[DEC]` for the decoder (paper section 3.1).
"""

import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from blip_edge.artifact import write_json
from blip_edge.errors import ArtifactError

__all__ = [
    "COMPARED_TOKENS",
    "Tokenizer",
    "clean_caption",
    "clean_question",
    "exchange_sides",
    "few_of",
    "listed_words",
    "require_covered",
]

First = Literal["cls", "enc", "dec"]

_BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BLIP_TOKENS = ("[DEC]", "[ENC]")
_FILE = "tokenizer.json"

COMPARED_TOKENS = 35
"""Tokens that BLIP keeps of a text it compares with pictures."""


def clean_caption(text: str, max_words: int = 30) -> str:
    """BLIP's caption cleaning: lower case, some punctuation to spaces, at most `max_words` words.

    Source: `pre_caption` as described for the released data loaders (commas, hyphens, question
    marks and apostrophes stay).
    """
    words = re.sub(r"[.!\"()*#:;~]", " ", text.lower()).split()
    return " ".join(words[:max_words])


def clean_question(text: str, max_words: int = 50) -> str:
    """BLIP's question cleaning: lower case, some punctuation deleted, at most `max_words` words.

    Unlike a caption's, the punctuation leaves no space behind, and the question mark stays.
    Source: `pre_question` as described for the released data loaders.
    """
    words = re.sub(r"[.!\"()*#:;~]", "", text.lower()).rstrip(" ").split(" ")
    return " ".join(words[:max_words])


def exchange_sides(sentence: str) -> str:
    """The sentence for pictures that have changed places: left is right, and right is left."""
    other = {"left": "right", "right": "left"}
    return re.sub(r"\b(left|right)(?=(most)?\b)", lambda found: other[found[1]], sentence.lower())


class Tokenizer:
    """A WordPiece tokenizer that knows BLIP's special tokens."""

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, *, source: Path | str = "tokenizer"
    ) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.pad, self.unk, self.cls, self.sep, self.dec, self.enc = (
            self._id(token, source)
            for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "[ENC]")
        )

    def _id(self, token: str, source: Path | str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ArtifactError(f"{source} has no {token} token; it is not a BLIP tokenizer")
        return int(number)

    @property
    def vocab_size(self) -> int:
        """How many ids there are, [DEC] and [ENC] included."""
        return int(self._tokenizer.get_vocab_size())

    @classmethod
    def load(cls, source: Path | str) -> Self:
        """Read a tokenizer.json, or the one in a folder.

        Raises:
            ArtifactError: it is missing, not a tokenizer, or lacks a special token of BLIP's.
        """
        path = Path(source) / _FILE if Path(source).is_dir() else Path(source)
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; a model or bundle needs its tokenizer")
        try:
            text = path.read_text(encoding="utf-8")
            tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the Rust library raises bare Exception
            raise ArtifactError(f"{path} is not a tokenizer: {error}") from None
        return cls(tokenizer, source=path)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Self:
        """Learn at most `vocab_size` word pieces from `texts`, [DEC] and [ENC] coming last.

        The same texts give the same ids. Single characters are always kept, so a `vocab_size`
        smaller than their number is exceeded.
        """
        texts = list(texts)
        bare = _dressed(models.WordPiece(unk_token="[UNK]"))
        trainer = trainers.WordPieceTrainer(
            vocab_size=max(0, vocab_size - len(_BLIP_TOKENS)),
            # The library numbers characters inside words in the order of a hash map, another one
            # in every process; those that are announced keep the order they are announced in.
            special_tokens=[*_BERT_TOKENS, *_characters(bare, texts)],
            show_progress=False,
        )
        bare.train_from_iterator(texts, trainer)
        # Only the vocabulary: in a tokenizer of its own "##a" is a piece and no special token.
        return cls(_from_words(bare.get_vocab(with_added_tokens=False)))

    @classmethod
    def from_vocab(cls, path: Path) -> Self:
        """Read a BERT vocab.txt; [DEC] and [ENC] are appended when they are not in it.

        Raises:
            ArtifactError: the file is missing or is no BERT vocabulary.
        """
        return cls.from_words(listed_words(path), source=path)

    @classmethod
    def from_words(cls, words: Sequence[str], *, source: Path | str) -> Self:
        """BERT's words, each with its place as its id; see `from_vocab`.

        Raises:
            ArtifactError: a special token of BERT's is missing; `source` is named.
        """
        vocab = {word: number for number, word in enumerate(words)}
        missing = [token for token in _BERT_TOKENS if token not in vocab]
        if missing:
            raise ArtifactError(f"{source} is not a BERT vocabulary: no {', '.join(missing)}")
        return cls(_from_words(vocab))

    def restricted(self, texts: Iterable[str]) -> tuple[Self, NDArray[np.int64]]:
        """A tokenizer with those pieces alone that `texts` need, and (V',) their ids in this one.

        `texts` are split into the same pieces as before, and ids keep their order. Special tokens
        stay, and so do single characters that occur, so that other words can still be spelled.

        Why the split stays: WordPiece takes the longest piece that the rest of a word starts with.
        A vocabulary that has this piece, and no piece that there was not before, has no longer one
        either; so by induction each step finds what it found. A word that cannot be finished is
        [UNK]; its first pieces stay too, though they are in no text's ids: without them a shorter
        one might lead on to the word's end, and [UNK] would become something else.

        Raises:
            ArtifactError: this is no WordPiece tokenizer, or one that does not split texts first.
        """
        document = json.loads(self._tokenizer.to_str())
        model, ids = document["model"], self._tokenizer.get_vocab()
        if model["type"] != "WordPiece":
            raise ArtifactError(
                f"the tokenizer is a {model['type']}; only a WordPiece can be cut to fewer words"
            )
        if document["normalizer"] is None or document["pre_tokenizer"] is None:
            raise ArtifactError("the tokenizer does not split texts into words, as BERT's does")
        specials = (*_BERT_TOKENS, *_BLIP_TOKENS, model["unk_token"])
        needed = {token["content"] for token in document["added_tokens"]}
        needed |= {token for token in specials if token in ids}
        needed |= _pieces(_words(self._tokenizer, texts), model)
        order = sorted(needed, key=lambda piece: ids[piece])
        numbers = {piece: number for number, piece in enumerate(order)}
        model["vocab"] = numbers
        for token in document["added_tokens"]:
            token["id"] = numbers[token["content"]]
        # What puts [CLS] and [SEP] on holds ids too, and is made anew.
        smaller = _ended(tokenizers.Tokenizer.from_str(json.dumps(document)))
        return type(self)(smaller), np.array([ids[piece] for piece in order], dtype=np.int64)

    def unknown_words(self, texts: Iterable[str]) -> list[str]:
        """The words of `texts` that become [UNK], each once, as they are written there."""
        unknown: dict[str, None] = {}
        for text in texts:
            found = self._tokenizer.encode(text)
            for number, (begin, end) in zip(found.ids, found.offsets, strict=True):
                if number == self.unk and text[begin:end] != "[UNK]":
                    unknown[text[begin:end]] = None
        return list(unknown)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, as Hugging Face reads them."""
        self._tokenizer.save(str(Path(folder) / _FILE))
        write_json(Path(folder) / "tokenizer_config.json", self._config())

    def _config(self) -> dict[str, Any]:
        return {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "bos_token": "[DEC]",
            "additional_special_tokens": ["[ENC]"],
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "mask_token": "[MASK]",
            "model_max_length": 512,
        }

    def encode(
        self, texts: Sequence[str], *, max_length: int = 40, first: First = "cls"
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Ids and mask, both (B, T) int32, padded to the longest of `texts`.

        `first` says which token stands at position 0; texts over `max_length` ids are cut, the
        [SEP] staying last.
        """
        rows = [self._row(text, max_length) for text in texts]
        length = max((len(row) for row in rows), default=0)
        ids = np.full((len(rows), length), self.pad, dtype=np.int32)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        ids[:, :1] = {"cls": self.cls, "enc": self.enc, "dec": self.dec}[first]
        return ids, mask

    def _row(self, text: str, max_length: int) -> list[int]:
        ids = list(self._tokenizer.encode(text).ids)
        return ids if len(ids) <= max_length else [*ids[: max_length - 1], self.sep]

    def prompt_ids(self, prompt: str) -> list[int]:
        """[DEC] and the prompt's words: what a caption starts from."""
        return [self.dec, *self._row(prompt, 512)[1:-1]]

    def answer_ids(self, answer: str) -> list[int]:
        """The words of an answer and [SEP]: what a decoder says after [DEC]."""
        return self._row(answer, 512)[1:]

    def decode(self, ids: Iterable[int]) -> str:
        """The words behind `ids`, special tokens left out."""
        return str(self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)).strip()


def listed_words(path: Path) -> list[str]:
    """The words of a vocab.txt, one a line.

    Raises:
        ArtifactError: the file cannot be read, or names a word twice.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            # Not splitlines: it also splits at characters that are words of a vocabulary.
            words = [line.rstrip("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read as a vocabulary: {error}") from None
    twice = [word for word, count in Counter(words).items() if count > 1]
    if twice:
        raise ArtifactError(f"{path} lists {twice[0]!r} twice; a word has one number")
    return words


def require_covered(tokenizer: Tokenizer, texts: Iterable[str], source: Path | str) -> None:
    """Make sure that no word of `texts` becomes [UNK].

    Raises:
        ArtifactError: some do; `source`, their number and up to three of them are named.
    """
    unknown = tokenizer.unknown_words(texts)
    if unknown:
        words = "word" if len(unknown) == 1 else "words"
        raise ArtifactError(
            f"{source}: the vocabulary cannot spell {len(unknown)} {words}: {few_of(unknown)}; "
            "take one from texts in which their characters occur"
        )


def few_of(words: Sequence[str]) -> str:
    """Up to three of `words`, in quotes, for a message."""
    return ", ".join(map(repr, words[:3])) + (", …" if len(words) > 3 else "")


def _dressed(model: models.WordPiece) -> tokenizers.Tokenizer:
    """A WordPiece model with BERT's lower-casing, splitting and joining around it."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _words(tokenizer: tokenizers.Tokenizer, texts: Iterable[str]) -> set[str]:
    """What `texts` are split into before words are split into pieces."""
    normalise = tokenizer.normalizer.normalize_str
    split = tokenizer.pre_tokenizer.pre_tokenize_str
    return {word for text in texts for word, _ in split(normalise(text))}


def _characters(tokenizer: tokenizers.Tokenizer, texts: Iterable[str]) -> list[str]:
    """The characters of `texts` as pieces, in alphabetical order: at the start, then inside."""
    words = _words(tokenizer, texts)
    inside = sorted({letter for word in words for letter in word[1:]})
    return [*sorted(set("".join(words))), *(f"##{letter}" for letter in inside)]


def _pieces(words: Iterable[str], model: dict[str, Any]) -> set[str]:
    """What `words` need of a WordPiece `model`, as tokenizer.json describes it."""
    vocab, inside = model["vocab"], model["continuing_subword_prefix"]
    letters: set[str] = set()
    needed: set[str] = set()
    for word in words:
        letters.update(word)
        if len(word) <= model["max_input_chars_per_word"]:  # longer ones are not looked at
            needed.update(_longest_matches(word, vocab, inside))
    return needed | {
        piece for letter in letters for piece in (letter, inside + letter) if piece in vocab
    }


def _longest_matches(word: str, vocab: Container[str], inside: str) -> Iterator[str]:
    """The pieces of a word from its start on, as far as there are any."""
    start = 0
    while start < len(word):
        prefix = inside if start else ""
        ends = range(len(word), start, -1)
        end = next((end for end in ends if prefix + word[start:end] in vocab), None)
        if end is None:
            return
        yield prefix + word[start:end]
        start = end


def _from_words(vocab: dict[str, int]) -> tokenizers.Tokenizer:
    return _finish(_dressed(models.WordPiece(vocab, unk_token="[UNK]")))


def _finish(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    tokenizer.add_special_tokens([*_BERT_TOKENS, *_BLIP_TOKENS])
    return _ended(tokenizer)


def _ended(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """With [CLS] before and [SEP] after every text."""
    ends = {token: tokenizer.token_to_id(token) or 0 for token in ("[SEP]", "[CLS]")}
    tokenizer.post_processor = processors.BertProcessing(*ends.items())
    return tokenizer
