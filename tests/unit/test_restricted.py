"""Fewer words, the same pieces: what is split otherwise, a model reads otherwise."""

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.errors import ArtifactError
from blip_edge.text import Tokenizer, require_covered

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# As in BERT's vocabulary: specials in the middle, words that no text can ask for, and pieces.
BERT = [
    *("[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused2]"),
    *("!", "?", "a", "b", "c", "r", "中", "##a", "##b", "##c", "##d", "##e", "##r"),
    *("the", "red", "cat", "cats", "picture", "of", "##s", "##ness", "##at"),
]
LETTERS = "abc"


def of_words(words: list[str], folder: Path) -> Tokenizer:
    path = folder / "vocab.txt"
    path.write_text("\n".join(words) + "\n", encoding="utf-8")
    return Tokenizer.from_vocab(path)


@pytest.fixture
def bert(tmp_path: Path) -> Tokenizer:
    return of_words(BERT, tmp_path)


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return [int(number) for number in tokenizer.encode([text], max_length=10_000)[0][0]]


def same(old: Tokenizer, new: Tokenizer, kept: np.ndarray, texts: list[str]) -> None:
    for text in texts:
        assert kept[ids_of(new, text)].tolist() == ids_of(old, text), text


def test_ids_move_in_order_and_specials_with_them(bert: Tokenizer) -> None:
    new, kept = bert.restricted(["the red cat"])
    every = [*BERT, "[DEC]", "[ENC]"]
    words = [every[number] for number in kept]
    assert words == [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "c", "r"),
        *("##a", "##c", "##d", "##e", "##r", "the", "red", "cat", "[DEC]", "[ENC]"),
    ]
    assert (kept[1:] > kept[:-1]).all()
    for name in ("pad", "unk", "cls", "sep", "dec", "enc"):
        assert kept[getattr(new, name)] == getattr(bert, name), name
    assert new.vocab_size == len(kept) < bert.vocab_size
    same(bert, new, kept, ["the red cat"])


def test_other_words_of_the_same_letters_can_be_spelled(bert: Tokenizer) -> None:
    new, _ = bert.restricted(["the red cat"])
    text = "acre"
    assert new.unk not in ids_of(new, text)
    assert new.decode(ids_of(new, text)) == text


def test_special_tokens_inside_texts_stay_special(bert: Tokenizer) -> None:
    """A dialog has [SEP] between what was said."""
    texts = ["the cat [SEP] red[SEP]cats", "[MASK] of", "a [UNK] 日"]
    new, kept = bert.restricted(texts)
    same(bert, new, kept, texts)
    assert ids_of(new, texts[0]).count(new.sep) == 3


def test_a_word_that_could_not_be_finished_still_cannot(tmp_path: Path) -> None:
    """ "abc" is "ab" and no end. Without "ab", which no id asks for, it were "a" and "##bc"."""
    old = of_words([*SPECIAL, "a", "ab", "x", "##bc"], tmp_path)
    texts = ["a", "xbc", "abc"]
    assert old.unk in ids_of(old, "abc")
    new, kept = old.restricted(texts)
    same(old, new, kept, texts)


def test_words_too_long_to_be_looked_at_are_unknown_before_and_after(bert: Tokenizer) -> None:
    texts = ["a" * 100, "a" * 101]
    new, kept = bert.restricted(texts)
    same(bert, new, kept, texts)
    assert new.unk in ids_of(new, texts[1])


def test_no_texts_leave_the_special_tokens(bert: Tokenizer) -> None:
    new, kept = bert.restricted([])
    assert new.vocab_size == len(kept) == 7
    assert ids_of(new, "") == [new.cls, new.sep]
    assert ids_of(new, "cat") == [new.cls, new.unk, new.sep]


def test_cutting_twice_is_cutting_once(bert: Tokenizer, tmp_path: Path) -> None:
    texts = ["a picture of red cats", "redness!"]
    once, kept = bert.restricted(texts)
    twice, all_of_it = once.restricted(texts)
    assert all_of_it.tolist() == list(range(len(kept)))
    for name, tokenizer in (("once", once), ("twice", twice)):
        (tmp_path / name).mkdir()
        tokenizer.save(tmp_path / name)
    files = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("once", "twice")]
    assert files[0] == files[1]


def test_the_order_of_texts_does_not_matter(bert: Tokenizer) -> None:
    texts = ["a picture", "of red cats", "bb"]
    assert (bert.restricted(texts)[1] == bert.restricted(iter(texts[::-1]))[1]).all()


def test_saved_and_loaded_it_is_the_same(bert: Tokenizer, tmp_path: Path) -> None:
    texts = ["a picture of red cats [SEP] redness!", "中 cat?"]
    new, kept = bert.restricted(texts)
    new.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.dec, again.enc, again.vocab_size) == (new.dec, new.enc, new.vocab_size)
    same(bert, again, kept, texts)
    assert again.decode(ids_of(again, texts[1])) == bert.decode(ids_of(bert, texts[1]))


@pytest.mark.parametrize("processor", ["BertProcessing", "TemplateProcessing"])
def test_whatever_puts_the_ends_on_does_it_with_the_new_ids(
    bert: Tokenizer, processor: str, tmp_path: Path
) -> None:
    """Hugging Face's files say it as a template, in which ids are written out too."""
    bert.save(tmp_path)
    path = str(tmp_path / "tokenizer.json")
    file = tokenizers.Tokenizer.from_file(path)
    if processor == "TemplateProcessing":
        file.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            special_tokens=[("[CLS]", bert.cls), ("[SEP]", bert.sep)],
        )
    file.save(path)
    old = Tokenizer.load(tmp_path)
    new, kept = old.restricted(["red cats"])
    same(old, new, kept, ["red cats"])
    assert ids_of(new, "red")[0] == new.cls
    assert ids_of(new, "red")[-1] == new.sep


# Three letters make every kind of overlap likely: prefixes of prefixes, and dead ends.
_PIECES = st.lists(
    st.tuples(st.booleans(), st.text(LETTERS, min_size=1, max_size=4)), max_size=20, unique=True
)
_TEXT = st.lists(
    st.one_of(st.text(LETTERS, max_size=8), st.sampled_from(["[SEP]", "[MASK]", "A", "é", "z!"])),
    max_size=4,
)


@settings(deadline=None, max_examples=300)
@given(_PIECES, st.lists(_TEXT, max_size=5), st.sampled_from([" ", ""]))
def test_texts_are_split_as_before(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[tuple[bool, str]],
    texts: list[list[str]],
    between: str,
) -> None:
    words = [f"##{piece}" if inside else piece for inside, piece in pieces]
    old = of_words([*SPECIAL, *words], tmp_path_factory.getbasetemp())
    joined = [between.join(words) for words in texts]
    new, kept = old.restricted(joined)
    same(old, new, kept, joined)
    assert (np.diff(kept) > 0).all()


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=6))
def test_any_text_is_split_as_before(texts: list[str]) -> None:
    old = Tokenizer.train(["Über die Brücke", "a red, red cat!", "中文 e\u0301", *texts[::2]], 90)
    new, kept = old.restricted(texts)
    same(old, new, kept, texts)
    assert new.unknown_words(texts) == old.unknown_words(texts)


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    names = [*SPECIAL, "[DEC]", "[ENC]"]
    vocab = {name: number for number, name in enumerate(names)}
    other = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [], unk_token="[UNK]"))
    with pytest.raises(ArtifactError, match="is a BPE; only a WordPiece can be cut"):
        Tokenizer(other).restricted(["a"])
    bare = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))
    with pytest.raises(ArtifactError, match="does not split texts into words"):
        Tokenizer(bare).restricted(["a"])


def test_what_cannot_be_spelled_is_named(bert: Tokenizer) -> None:
    new, _ = bert.restricted(["the red cat"])
    require_covered(new, ["the red cat", "acre", "cat [SEP] [UNK] red", ""], "data")
    with pytest.raises(ArtifactError, match=r"data/toy: .* cannot spell 1 word: 'Öl'; take"):
        require_covered(new, ["red Öl Öl"], "data/toy")
    with pytest.raises(ArtifactError, match=r"spell 4 words: '中', 'zoo', '日', …; take") as error:
        require_covered(new, ["red 中 zoo", "日中 fox zoo"], "data/toy")
    assert error.value.exit_code == 3
