"""CIDEr, BLEU, ROUGE-L and METEOR against the field's scorers; areas against scikit-learn."""

import random
from typing import Any

import numpy as np
import pytest

from blip_edge.metrics import average_precisions, bleu, cider, roc_auc, rouge_l, words
from blip_edge.metrics.java import meteor, meteor_missing

AGREED = 1e-6

SETS = 1000
NOUNS = ["dog", "cat", "man", "mat", "rug", "bus", "tree", "t-shirt", "7up"]
VERBS = ["runs", "sits", "isn't", "is", "standing", "rides"]
REST = ["a", "the", "red", "big", "two", "on", "under", "to", "with", "and", "of", "his", "dog's"]

Said = dict[int, str]
Meant = dict[int, list[str]]


def field(module: str, scorer: str) -> Any:
    """One of the field's scorers."""
    found = pytest.importorskip(
        f"pycocoevalcap.{module}", reason="pycocoevalcap, the field's scorers, is not installed"
    )
    return getattr(found, scorer)


def caption(chance: random.Random) -> str:
    """One to fourteen words that often repeat, as people write them."""
    kinds = chance.choices([NOUNS, VERBS, REST], weights=[3, 1, 4], k=chance.randint(1, 14))
    text = " ".join(chance.choice(kind) for kind in kinds)
    return f"{text.capitalize()}." if chance.random() < 0.5 else text


def captions(chance: random.Random, pictures: int) -> tuple[Said, Meant]:
    """Candidates that share words with their references, and at times are one of them."""
    said: Said = {}
    meant: Meant = {}
    for picture in range(pictures):
        meant[picture] = [caption(chance) for _ in range(chance.randint(1, 6))]
        near = chance.choice(meant[picture]).split()
        at = chance.randrange(len(near))
        new = [*near[:at], chance.choice(NOUNS + REST), *near[at + chance.randint(0, 2) :]]
        said[picture] = " ".join(chance.choice([near, new, new, caption(chance).split()]))
    return said, meant


def plain(texts: list[str]) -> list[str]:
    """What the field's scorers are given: tokens with blanks between them."""
    return [" ".join(words(text)) for text in texts]


def theirs(said: Said, meant: Meant) -> tuple[list[float], list[list[float]]]:
    """The field's figures for the set and for each picture: BLEU-1 to 4, ROUGE-L, CIDEr."""
    given = {key: plain([text]) for key, text in said.items()}
    known = {key: plain(texts) for key, texts in meant.items()}
    means, items = field("bleu.bleu", "Bleu")(4).compute_score(known, given, verbose=0)
    for module, scorer in (("rouge.rouge", "Rouge"), ("cider.cider", "Cider")):
        mean, per_item = field(module, scorer)().compute_score(known, given)
        means, items = [*means, mean], [*items, per_item]
    return means, [list(per_item) for per_item in items]


@pytest.mark.parametrize("pictures", [1, 2, 8])
def test_captions_are_scored_as_the_field_scores_them(pictures: int) -> None:
    chance = random.Random(pictures)
    for _ in range(SETS if pictures == 8 else SETS // 10):
        said, meant = captions(chance, pictures)
        ours = [*bleu(said, meant), rouge_l(said, meant), cider(said, meant)]
        means, items = theirs(said, meant)
        assert [score.mean for score in ours] == pytest.approx(means, abs=AGREED)
        for score, expected in zip(ours, items, strict=True):
            assert list(score.per_item.values()) == pytest.approx(expected, abs=AGREED)


def test_one_set_of_a_thousand_pictures() -> None:
    said, meant = captions(random.Random(0), SETS)
    means, _ = theirs(said, meant)
    ours = [*bleu(said, meant), rouge_l(said, meant), cider(said, meant)]
    assert [score.mean for score in ours] == pytest.approx(means, abs=AGREED)


# Their process leaves pipes open when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_meteor_is_the_fields_own() -> None:
    if (missing := meteor_missing()) is not None:
        pytest.skip(missing)
    said, meant = captions(random.Random(0), 30)
    score = meteor(said, meant)
    scorer = field("meteor.meteor", "Meteor")()
    known = {key: plain(texts) for key, texts in meant.items()}
    mean, per_item = scorer.compute_score(known, {key: plain([said[key]]) for key in known})
    assert score.mean == pytest.approx(mean, abs=AGREED)
    assert list(score.per_item.values()) == pytest.approx(per_item, abs=AGREED)
    assert meteor({0: "A dog."}, {0: ["a dog"]}).mean == pytest.approx(1, abs=AGREED)


@pytest.mark.parametrize("levels", [3, 1000])  # many ties, and next to none
def test_areas_are_those_of_scikit_learn(levels: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    chance = np.random.default_rng(levels)
    for size in (5, 50, 500):
        scores = chance.integers(levels, size=(size, 20)) / levels - 0.3
        labels = chance.integers(-1, 2, size=(size, 20))
        labels[:2] = [[0], [1]]
        found = average_precisions(scores, labels)
        for attribute in range(20):
            judged = labels[:, attribute] != -1
            known, given = labels[judged, attribute], scores[judged, attribute]
            expected = sklearn.average_precision_score(known, given)
            assert found[attribute] == pytest.approx(expected, abs=AGREED)
            area = sklearn.roc_auc_score(known, given)
            assert roc_auc(given, known) == pytest.approx(area, abs=AGREED)
