"""Places of right candidates and retrieval, against counting one by one and against tables."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blip_edge.metrics import (
    mean_rank,
    median_rank,
    ranks,
    recall,
    recalls,
    retrieval,
    text_ranks,
)
from blip_edge.metrics.ranks import mean_reciprocal

EXACT = 1e-12
LIST = [1, 3, 10, 11]  # places, from 1


@st.composite
def _searches(draw: st.DrawFn) -> tuple[Any, Any]:
    """(I, T) scores with many ties, and the image of each text; an image has one text at least."""
    images, more = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    numbers = st.integers(0, images - 1)
    extra = draw(st.lists(numbers, min_size=more, max_size=more))
    owners = draw(st.permutations([*range(images), *extra]))
    shape = (images, len(owners))
    values = st.sampled_from([-100.0, -0.25, 0.0, 0.5, 1.0])
    return draw(arrays(np.float64, shape, elements=values)), np.array(owners)


@given(_searches())
def test_places_are_counted_one_by_one(search: tuple[Any, Any]) -> None:
    scores, image_of = search
    for image, place in enumerate(text_ranks(scores, image_of)):
        best = max(s for s, owner in zip(scores[image], image_of, strict=True) if owner == image)
        wrong = [s for s, owner in zip(scores[image], image_of, strict=True) if owner != image]
        assert place == 1 + sum(score >= best for score in wrong)
    for text, place in enumerate(ranks(scores.T, image_of)):
        own = scores[image_of[text], text]
        wrong = [scores[i, text] for i in range(len(scores)) if i != image_of[text]]
        assert place == 1 + sum(score >= own for score in wrong)


@given(_searches(), st.randoms(use_true_random=False))
def test_the_order_of_images_and_texts_does_not_matter(
    search: tuple[Any, Any], random: Any
) -> None:
    scores, image_of = search
    rows, columns = list(range(len(scores))), list(range(len(image_of)))
    random.shuffle(rows)
    random.shuffle(columns)
    turned, owners = scores[rows][:, columns], np.argsort(rows)[image_of[columns]]
    assert text_ranks(turned, owners).tolist() == text_ranks(scores, image_of)[rows].tolist()
    assert ranks(turned.T, owners).tolist() == ranks(scores.T, image_of)[columns].tolist()


@given(_searches())
def test_who_knows_everything_is_first_and_who_knows_nothing_last(search: tuple[Any, Any]) -> None:
    scores, image_of = search
    right = image_of[None, :] == np.arange(len(scores))[:, None]
    known = retrieval(text_ranks(right * 1.0, image_of), ranks(right.T * 1.0, image_of))
    assert set(known.values()) == {1.0}
    same = np.zeros_like(scores)
    assert ranks(same.T, image_of).tolist() == [len(scores)] * len(image_of)
    others = len(image_of) - np.bincount(image_of)
    assert text_ranks(same, image_of).tolist() == (1 + others).tolist()


def test_retrieval_by_hand() -> None:
    # Image 0 has texts 0, 1 and 2, image 1 has text 3.
    scores = np.array([[0.1, 0.9, 0.2, 0.5], [0.6, 0.1, 0.7, 0.6]])
    image_of = [0, 0, 0, 1]
    texts, images = text_ranks(scores, image_of), ranks(scores.T, image_of)
    assert texts.tolist() == [1, 3]  # 0.9 is the first; 0.7 and a tie are before 0.6
    assert images.tolist() == [2, 1, 2, 1]
    found = retrieval(texts, images)
    assert found == pytest.approx(
        {
            "txt_r1": 1 / 2,
            "txt_r5": 1,
            "txt_r10": 1,
            "txt_r_mean": 5 / 6,
            "img_r1": 1 / 2,
            "img_r5": 1,
            "img_r10": 1,
            "img_r_mean": 5 / 6,
            "r_mean": 5 / 6,
        },
        abs=EXACT,
    )
    assert list(found)[-1] == "r_mean"


def test_clips_have_their_own_names() -> None:
    found = retrieval([1, 11], [1, 1], name="vid")
    assert list(found) == [
        *("txt_r1", "txt_r5", "txt_r10", "txt_r_mean"),
        *("vid_r1", "vid_r5", "vid_r10", "vid_r_mean", "r_mean"),
    ]
    assert found["r_mean"] == pytest.approx(3 / 4, abs=EXACT)


def test_figures_of_places_by_hand() -> None:
    assert [recall(LIST, k) for k in (1, 2, 3, 10, 11)] == [0.25, 0.25, 0.5, 0.75, 1]
    assert recalls(LIST, "img") == {
        "img_r1": 0.25,
        "img_r5": 0.5,
        "img_r10": 0.75,
        "img_r_mean": 0.5,
    }
    assert median_rank(LIST) == 6.5
    assert mean_rank(LIST) == 6.25
    assert mean_reciprocal(LIST) == pytest.approx((1 + 1 / 3 + 1 / 10 + 1 / 11) / 4, abs=EXACT)


@given(st.lists(st.integers(1, 30), min_size=1), st.integers(1, 30))
def test_recall_grows_with_k(places: list[int], k: int) -> None:
    assert 0 <= recall(places, k) <= recall(places, k + 1) <= recall(places, 30) == 1


def test_a_score_of_half_precision_ties_with_none_that_differs() -> None:
    scores = np.array([[1.0, 1.001]], dtype=np.float16)
    assert ranks(scores, [0]).tolist() == [2]
    assert ranks(scores, [1]).tolist() == [1]


def test_infinities_fill_up() -> None:
    scores = np.array([[0.5, 0.1, -np.inf, -np.inf]])
    assert ranks(scores, [1]).tolist() == [2]


@pytest.mark.parametrize(
    ("scores", "truth", "complaint"),
    [
        ([], [], "shape"),
        (np.zeros((0, 3)), [], "shape"),
        (np.zeros((1, 0)), [0], "shape"),
        ([1.0, 2.0], [0], "shape"),
        ([[1.0, np.nan]], [0], "row 0, column 1 is NaN"),
        ([[1.0, 2.0]], [0, 1], "1 numbers are needed"),
        ([[1.0, 2.0]], [2], "not from 0 to 1"),
        ([[1.0, 2.0]], [-1], "not from 0 to 1"),
        ([[1.0, 2.0]], [0.0], "whole numbers"),
    ],
)
def test_places_of_what_cannot_be_ranked(scores: Any, truth: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ranks(scores, truth)


@pytest.mark.parametrize(
    ("scores", "image_of", "complaint"),
    [
        ([[1.0, np.nan]], [0, 0], "NaN"),
        ([[1.0, 2.0]], [0], "2 numbers are needed"),
        ([[1.0, 2.0]], [0, 1], "not from 0 to 0"),
        ([[1.0], [2.0]], [0], "image 1 has no texts"),
    ],
)
def test_retrieval_of_what_cannot_be_ranked(scores: Any, image_of: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        text_ranks(scores, image_of)


def test_places_that_are_none() -> None:
    for figure in (median_rank, mean_rank, mean_reciprocal):
        with pytest.raises(ValueError, match="something in it"):
            figure([])
        with pytest.raises(ValueError, match="begin with 1"):
            figure([1, 0])
    with pytest.raises(ValueError, match="k must"):
        recall([1], 0)
    with pytest.raises(ValueError, match="begin with 1"):
        recalls([0], "txt")
