"""BLEU, ROUGE-L and CIDEr-D against numbers worked out by hand and against plain definitions."""

import math
from collections.abc import Sequence
from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.metrics import bleu, cider, rouge_l

EXACT = 1e-9  # two orders of summation of the same few numbers
SMOOTHED = 1e-6  # the field's smoothing constants move a score by less than this
ALMOST_NOTHING = 0.04  # (1e-15 / 1e-9) ** (1/4), what smoothing leaves of 0 / 0 four-grams

Candidates = dict[int, str]
References = dict[int, list[str]]

_WORDS = st.sampled_from(["a", "red", "dog", "cat", "mat", "runs", "sits", "on"])
_TEXTS = st.lists(_WORDS, min_size=1, max_size=9).map(" ".join)
_SETS = st.lists(
    st.tuples(_TEXTS, st.lists(_TEXTS, min_size=1, max_size=3)), min_size=1, max_size=5
)


def _split(items: Sequence[tuple[str, list[str]]]) -> tuple[Candidates, References]:
    return {i: c for i, (c, _) in enumerate(items)}, {i: r for i, (_, r) in enumerate(items)}


# BLEU ------------------------------------------------------------------------------------------


def test_bleu_by_hand() -> None:
    # Papineni's own example: "the" is counted twice, as in the first reference.
    said = {0: "the the the the the the the"}
    meant = {0: ["the cat is on the mat", "there is a cat on the mat"]}
    assert bleu(said, meant)[0].mean == pytest.approx(2 / 7, abs=SMOOTHED)


def test_bleu_of_a_short_candidate_is_cut_by_its_length() -> None:
    one, two, three, four = bleu({0: "a red dog"}, {0: ["a red dog runs on"]})
    assert one.mean == pytest.approx(math.exp(1 - 5 / 3), abs=SMOOTHED)
    assert [two.mean, three.mean] == pytest.approx([one.mean] * 2, abs=SMOOTHED)
    assert four.mean < ALMOST_NOTHING  # there is no run of four words to be right about


def test_bleu_takes_the_closest_reference_and_the_shorter_of_two() -> None:
    # 4 words; 3 and 5 are equally close: r = 3 costs nothing, r = 5 would cost exp(1 - 5/4).
    said, meant = {0: "a red dog runs"}, {0: ["a red dog", "a red dog runs on"]}
    assert bleu(said, meant)[0].mean == pytest.approx(1, abs=SMOOTHED)


def test_bleu_of_the_set_is_not_the_mean() -> None:
    said = {0: "a red dog runs", 1: "cat"}
    meant = {0: ["a red dog runs"], 1: ["mat"]}
    score = bleu(said, meant)[0]
    assert score.mean == pytest.approx(4 / 5, abs=SMOOTHED)
    assert score.per_item == pytest.approx({0: 1, 1: 0}, abs=SMOOTHED)


def _closest(length: int, texts: list[str]) -> int:
    lengths = sorted(len(text.split()) for text in texts)
    return min(lengths, key=lambda other: abs(other - length))


def _plain_bleu(said: Candidates, meant: References, order: int) -> float:
    c = sum(len(text.split()) for text in said.values())
    r = sum(_closest(len(text.split()), meant[key]) for key, text in said.items())
    total = 1.0
    for n in range(1, order + 1):
        right = guessed = 0
        for key, text in said.items():
            grams = _grams(text, n)
            guessed += len(grams)
            for gram in set(grams):
                most = max(_grams(reference, n).count(gram) for reference in meant[key])
                right += min(grams.count(gram), most)
        total *= right / guessed if guessed else 0
    return min(1.0, math.exp(1 - r / c)) * math.pow(total, 1 / order)


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


@given(_SETS)
@settings(max_examples=40)
def test_bleu_is_its_definition(items: list[tuple[str, list[str]]]) -> None:
    said, meant = _split(items)
    for order, score in enumerate(bleu(said, meant), 1):
        expected = _plain_bleu(said, meant, order)
        if expected > 0:
            assert score.mean == pytest.approx(expected, abs=SMOOTHED)
        else:
            assert score.mean < ALMOST_NOTHING


# ROUGE-L ---------------------------------------------------------------------------------------


def test_rouge_by_hand() -> None:
    # Common: "a dog runs" (3). P = 3/4 whatever the reference; R = 3/3 from the shorter one.
    said, meant = {0: "a red dog runs"}, {0: ["a dog runs", "a big dog runs on the mat"]}
    precision, recall, beta = 3 / 4, 1.0, 1.2
    expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    assert rouge_l(said, meant).mean == pytest.approx(expected, abs=EXACT)


def _longest(one: list[str], other: list[str]) -> int:
    @cache
    def common(i: int, j: int) -> int:
        if i == len(one) or j == len(other):
            return 0
        if one[i] == other[j]:
            return 1 + common(i + 1, j + 1)
        return max(common(i + 1, j), common(i, j + 1))

    return common(0, 0)


@given(_SETS)
@settings(max_examples=40)
def test_rouge_is_its_definition(items: list[tuple[str, list[str]]]) -> None:
    said, meant = _split(items)
    for key, score in rouge_l(said, meant).per_item.items():
        words, texts = said[key].split(), [text.split() for text in meant[key]]
        p = max(_longest(words, text) / len(words) for text in texts)
        r = max(_longest(words, text) / len(text) for text in texts)
        expected = 2.44 * p * r / (r + 1.44 * p) if p else 0
        assert score == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(("said", "meant"), [("", ["a dog"]), ("a dog", ["", "..."]), ("", [""])])
def test_rouge_of_nothing_is_nothing(said: str, meant: list[str]) -> None:
    assert rouge_l({0: said}, {0: meant}).mean == 0


# CIDEr-D ---------------------------------------------------------------------------------------


def test_cider_by_hand() -> None:
    # Two pictures; "dog" and "runs" stand in one each (weight log 2), "a" in both (weight 0).
    said, meant = {0: "a dog", 1: "a dog"}, {0: ["a dog"], 1: ["a runs"]}
    score = cider(said, meant)
    # Orders 1 and 2 agree wholly, 3 and 4 are empty: 10 · (1 + 1 + 0 + 0) / 4.
    assert score.per_item == pytest.approx({0: 5, 1: 0}, abs=EXACT)
    assert score.mean == pytest.approx(2.5, abs=EXACT)


def test_cider_of_a_longer_candidate_is_cut() -> None:
    # "dog dog" against "dog": clipped to one of weight w, cosine w·w / (2w·w), one word too many.
    said, meant = {0: "dog dog", 1: "cat"}, {0: ["dog"], 1: ["cat"]}
    expected = 10 / 4 * 0.5 * math.exp(-1 / 72)
    assert cider(said, meant).per_item[0] == pytest.approx(expected, abs=EXACT)


def test_cider_over_one_picture_is_zero() -> None:
    assert cider({0: "a red dog runs"}, {0: ["a red dog runs"]}).mean == 0


def test_identical_captions_score_ten() -> None:
    meant = {0: ["a red dog runs"], 1: ["the cat sits still"]}
    said = {key: texts[0] for key, texts in meant.items()}
    assert cider(said, meant).mean == pytest.approx(10, abs=EXACT)


def _plain_cider(said: Candidates, meant: References, key: int) -> float:
    vocabulary = ["a", "red", "dog", "cat", "mat", "runs", "sits", "on"]
    total = 0.0
    for n, reference in product((1, 2, 3, 4), meant[key]):
        grams = sorted(set(_grams(said[key], n)) | set(_grams(reference, n)))
        assert all(word in vocabulary for gram in grams for word in gram)
        idf = [
            math.log(len(meant))
            - math.log(max(1, sum(any(g in _grams(t, n) for t in ts) for ts in meant.values())))
            for g in grams
        ]
        c = [_grams(said[key], n).count(g) * w for g, w in zip(grams, idf, strict=True)]
        r = [_grams(reference, n).count(g) * w for g, w in zip(grams, idf, strict=True)]
        norms = math.hypot(*c) * math.hypot(*r)
        delta = len(said[key].split()) - len(reference.split())
        dot = sum(min(x, y) * y for x, y in zip(c, r, strict=True))
        total += math.exp(-(delta**2) / 72) * dot / norms if norms else 0
    return 10 * total / 4 / len(meant[key])


@given(_SETS)
@settings(max_examples=40)
def test_cider_is_its_definition(items: list[tuple[str, list[str]]]) -> None:
    said, meant = _split(items)
    for key, score in cider(said, meant).per_item.items():
        assert score == pytest.approx(_plain_cider(said, meant, key), abs=EXACT)


# All -------------------------------------------------------------------------------------------


def _all(said: Candidates, meant: References) -> list[float]:
    scores = [*bleu(said, meant), rouge_l(said, meant), cider(said, meant)]
    return [score.mean for score in scores]


@given(_SETS)
@settings(max_examples=40)
def test_order_does_not_matter(items: list[tuple[str, list[str]]]) -> None:
    said, meant = _split(items)
    turned = {key: list(reversed(meant[key])) for key in reversed(meant)}
    assert _all({key: said[key] for key in turned}, turned) == pytest.approx(_all(said, meant))


@settings(max_examples=30)
@given(st.lists(st.lists(_WORDS, min_size=4, max_size=9).map(" ".join), min_size=1, max_size=4))
def test_a_reference_as_candidate_is_perfect(texts: list[str]) -> None:
    meant = {key: [text, "something else"] for key, text in enumerate(texts)}
    said = dict(enumerate(texts))
    assert [score.mean for score in bleu(said, meant)] == pytest.approx([1] * 4, abs=SMOOTHED)
    assert rouge_l(said, meant).mean == pytest.approx(1, abs=EXACT)


@given(_SETS)
@settings(max_examples=30)
def test_a_disjoint_caption_scores_nothing(items: list[tuple[str, list[str]]]) -> None:
    _, meant = _split(items)
    said = dict.fromkeys(meant, "seven green parrots fly")
    assert _all(said, meant) == pytest.approx([0] * 6, abs=SMOOTHED)


@pytest.mark.parametrize(
    ("said", "meant", "complaint"),
    [
        ({}, {}, "no captions"),
        ({1: "a"}, {2: ["a"]}, "not both"),
        ({1: "a"}, {1: []}, "no references"),
    ],
)
def test_what_cannot_be_scored(said: Candidates, meant: References, complaint: str) -> None:
    for metric in (bleu, rouge_l, cider):
        with pytest.raises(ValueError, match=complaint):
            metric(said, meant)


def test_parity_with_the_fields_own_scorers() -> None:
    pytest.importorskip("pycocoevalcap", reason="the field's scorers are not installed")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    meant = {
        0: ["a red dog runs on the mat", "the dog runs", "a dog on a mat in the sun"],
        1: ["a cat sits still", "one cat is sitting on a mat"],
        2: ["two men and a dog", "the men walk a dog", "men with a dog"],
    }
    said = {0: "a red dog on a mat", 1: "a cat on a mat", 2: "the the dog"}
    lists = {key: [text] for key, text in said.items()}
    theirs_bleu, _ = Bleu(4).compute_score(meant, lists, verbose=0)
    expected = [*theirs_bleu, *(m().compute_score(meant, lists)[0] for m in (Rouge, Cider))]
    assert _all(said, meant) == pytest.approx(expected, abs=EXACT)
