"""Ids are what a model was trained on: one wrong id at the start, and every caption is another."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.errors import ArtifactError
from blip_edge.text import Tokenizer, clean_caption

TEXTS = ["a red circle over a blue square", "two green triangles", "nothing under a white star"]
SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    *("the", "a", "cafe", "na", "red", "don", "t", "x", "picture", "of", "中"),
    *("!", ",", "'", "-", "?", "##ive", "##ness", "##s"),
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, 80)


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, *WORDS]) + "\n", encoding="utf-8")
    return path


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    ids, _ = tokenizer.encode([text])
    return [int(number) for number in ids[0]]


def test_special_tokens_have_ids_of_their_own(tokenizer: Tokenizer) -> None:
    t = tokenizer
    assert (t.pad, t.unk, t.cls, t.sep) == (0, 1, 2, 3)
    assert (t.dec, t.enc) == (t.vocab_size - 2, t.vocab_size - 1)


def test_a_vocabulary_gets_the_ids_that_released_models_have(vocab: Path) -> None:
    """BERT's 30,522 words get [DEC] 30522 and [ENC] 30523."""
    tokenizer = Tokenizer.from_vocab(vocab)
    words = len(SPECIAL) + len(WORDS)
    assert (tokenizer.dec, tokenizer.enc, tokenizer.vocab_size) == (words, words + 1, words + 2)
    assert ids_of(tokenizer, "the") == [3, len(SPECIAL), 4]


def test_a_vocabulary_that_has_blips_tokens_is_not_extended(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, "[DEC]", "[ENC]", *WORDS]), encoding="utf-8")
    tokenizer = Tokenizer.from_vocab(path)
    assert (tokenizer.dec, tokenizer.enc) == (6, 7)
    assert tokenizer.vocab_size == len(SPECIAL) + 2 + len(WORDS)


def test_a_vocabulary_may_hold_what_python_calls_line_ends(tmp_path: Path) -> None:
    """Multilingual vocabularies do; every id after such a word would be off by one."""
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, "\x85", "\u2028", "word"]) + "\n", encoding="utf-8")
    assert ids_of(Tokenizer.from_vocab(path), "word") == [3, 8, 4]


@pytest.mark.parametrize("first", ["cls", "enc", "dec"])
def test_rows_are_padded_on_the_right_and_start_as_asked(tokenizer: Tokenizer, first: str) -> None:
    ids, mask = tokenizer.encode(["two green triangles", "a"], first=first)  # type: ignore[arg-type]
    assert ids.dtype == mask.dtype == np.int32
    assert (ids[:, 0] == getattr(tokenizer, first)).all()
    lengths = mask.sum(1)
    assert lengths[1] == 3 < lengths[0] == ids.shape[1]
    assert ids[1].tolist() == [getattr(tokenizer, first), *ids_of(tokenizer, "a")[1:]] + [
        tokenizer.pad
    ] * (ids.shape[1] - 3)
    assert mask[1].tolist() == [1, 1, 1] + [0] * (ids.shape[1] - 3)


def test_a_long_text_is_cut_and_still_ends(tokenizer: Tokenizer) -> None:
    whole = ids_of(tokenizer, TEXTS[0])
    ids, mask = tokenizer.encode([TEXTS[0]], max_length=6)
    assert ids[0].tolist() == [*whole[:5], tokenizer.sep]
    assert mask.sum() == 6
    exact, _ = tokenizer.encode([TEXTS[0]], max_length=len(whole))
    assert exact[0].tolist() == whole


def test_no_texts_are_no_rows(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer.encode([])
    assert len(ids) == len(mask) == 0
    assert ids_of(tokenizer, "") == [tokenizer.cls, tokenizer.sep]


def test_a_prompt_starts_with_dec_and_does_not_end(vocab: Path) -> None:
    tokenizer = Tokenizer.from_vocab(vocab)
    words = [tokenizer.cls, *tokenizer.prompt_ids("a picture of ")[1:], tokenizer.sep]
    assert tokenizer.prompt_ids("a picture of ")[0] == tokenizer.dec
    assert words == ids_of(tokenizer, "a picture of")
    assert tokenizer.prompt_ids("") == [tokenizer.dec]


def test_a_prompt_is_the_beginning_of_its_captions(tokenizer: Tokenizer) -> None:
    """Labels of the prompt are left out by counting its tokens."""
    prompt = tokenizer.prompt_ids("two green ")
    ids, _ = tokenizer.encode(["two green triangles"], first="dec")
    assert ids[0, : len(prompt)].tolist() == prompt


def test_decoding_gives_the_words_back(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        padded = [tokenizer.dec, *ids_of(tokenizer, text)[1:], tokenizer.pad, tokenizer.pad]
        assert tokenizer.decode(padded) == text
    assert tokenizer.decode([]) == ""


def test_pieces_are_no_special_tokens(tokenizer: Tokenizer) -> None:
    """A special "##e" would vanish from every decoded caption."""
    assert tokenizer.decode(ids_of(tokenizer, "square squares redd")) == "square squares redd"


def test_unknown_characters_are_one_unknown_word(tokenizer: Tokenizer) -> None:
    assert ids_of(tokenizer, "日") == [tokenizer.cls, tokenizer.unk, tokenizer.sep]


def test_saved_and_loaded_it_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        again = Tokenizer.load(source)
        assert again.vocab_size == tokenizer.vocab_size
        assert (again.dec, again.enc) == (tokenizer.dec, tokenizer.enc)
        assert ids_of(again, TEXTS[0]) == ids_of(tokenizer, TEXTS[0])


def test_padding_and_truncation_kept_in_the_file_do_not_count(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Files of other origin carry them; a prompt cut at five ids is no prompt."""
    import tokenizers

    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    other = tokenizers.Tokenizer.from_file(str(file))
    other.enable_truncation(5)
    other.enable_padding(length=30)
    other.save(str(file))
    assert ids_of(Tokenizer.load(tmp_path), TEXTS[0]) == ids_of(tokenizer, TEXTS[0])


def test_what_is_no_tokenizer_is_named(tmp_path: Path, vocab: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is missing"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is not a tokenizer"):
        Tokenizer.load(tmp_path)
    with pytest.raises(ArtifactError, match=r"words\.txt cannot be read"):
        Tokenizer.from_vocab(tmp_path / "words.txt")
    (tmp_path / "words.txt").write_text("[PAD]\n[UNK]\ncat\n")
    with pytest.raises(ArtifactError, match=r"words\.txt is not a BERT vocabulary: no \[CLS\]"):
        Tokenizer.from_vocab(tmp_path / "words.txt")


def test_a_tokenizer_without_blips_tokens_is_refused(tmp_path: Path) -> None:
    import tokenizers

    plain = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    plain.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
    plain.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ArtifactError, match=r"has no \[DEC\] token; it is not a BLIP tokenizer"):
        Tokenizer.load(tmp_path)


def test_training_keeps_to_the_asked_size_and_covers_its_texts() -> None:
    tokenizer = Tokenizer.train(TEXTS, 60)
    assert tokenizer.vocab_size == 60
    for text in TEXTS:
        assert tokenizer.unk not in ids_of(tokenizer, text)


def test_a_vocabulary_smaller_than_its_characters_is_those() -> None:
    tokenizer = Tokenizer.train(TEXTS, 1)
    assert not any(tokenizer.unk in ids_of(tokenizer, text) for text in TEXTS)


def test_the_same_texts_give_the_same_ids_in_every_process(tmp_path: Path) -> None:
    """Hash maps are ordered differently in each process, and models are compared by their bytes."""
    program = (
        "import sys; from pathlib import Path; from blip_edge.text import Tokenizer\n"
        f"Tokenizer.train({TEXTS!r}, 60).save(Path(sys.argv[1]))"
    )
    files = set()
    for run in range(3):
        folder = tmp_path / str(run)
        folder.mkdir()
        subprocess.run([sys.executable, "-c", program, folder], check=True)
        files.add((folder / "tokenizer.json").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize(
    "text",
    [
        "The  Café, naïve redness!",
        "DON'T x-the?",
        "a中a 中",
        "the\u0000 \ufffd a\tred\nx",
        "[MASK] the [SEP] a",
        "unknowable picture of reds",
        "",
    ],
)
def test_ids_are_those_of_hugging_faces_tokenizer(text: str, vocab: Path) -> None:
    transformers = pytest.importorskip("transformers")
    reference = transformers.BertTokenizer(vocab=str(vocab))
    assert len(reference) == len(SPECIAL) + len(WORDS), "the reference did not read the vocabulary"
    assert ids_of(Tokenizer.from_vocab(vocab), text) == reference(text)["input_ids"]


@settings(deadline=None)
@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = clean_caption(text)
    assert clean_caption(once) == once


@settings(deadline=None)
@given(st.text(st.sampled_from("ab .,!\t\n")), st.integers(1, 5))
def test_a_clean_caption_has_at_most_so_many_words(text: str, most: int) -> None:
    clean = clean_caption(text, most)
    assert len(clean.split()) <= most
    assert clean == " ".join(clean.split())


def test_cleaning_does_what_blips_loader_does() -> None:
    dirty = '  A "Red", (Big) Cat-dog!! isn\'t * it?  #1: ~yes; no.'
    assert clean_caption(dirty) == "a red , big cat-dog isn't it? 1 yes no"
