"""CapFilt's texts: which are one, what filters decide together, and what is counted of them."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blip_edge.evaluation.capfilt import CapfiltRecipe
from blip_edge.evaluation.capfilt.bootstrap import Bootstrap, Looked, Named, squashed
from blip_edge.evaluation.capfilt.parts import Found
from blip_edge.evaluation.capfilt.summary import Tally
from blip_edge.evaluation.capfilt.texts import Text, judged, unlike
from tests.unit.evaluation.painter import COLOURS, Critic, Painter


def _text(caption: str) -> Text:
    return Text(caption=caption, source="web", round=1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 1))
def test_votes_are_what_they_are_called(itm: list[float], threshold: float) -> None:
    cosines = [0.0] * len(itm)
    said = {
        vote: judged(_text("a"), itm, cosines, threshold=threshold, vote=vote).kept
        for vote in ("mean", "majority", "all")
    }
    assert said["all"] == (min(itm) >= threshold)
    assert said["majority"] == (sum(one >= threshold for one in itm) > len(itm) / 2)
    assert said["mean"] == (sum(itm) / len(itm) >= threshold)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=5), st.floats(-1, 1))
def test_a_cosine_may_be_asked_for_too(itc: list[float], least: float) -> None:
    sure = [1.0] * len(itc)

    def kept(itm: list[float], min_itc: float) -> bool:
        said = judged(_text("a"), itm, itc, threshold=0.5, vote="mean", min_itc=min_itc)
        return said.kept

    assert kept(sure, -1.0), "nothing is asked"
    assert kept(sure, least) == (sum(itc) / len(itc) >= least)
    assert not kept([0.0] * len(itc), -1.0), "the probability counts as before"


@given(st.floats(-5, 0), st.floats(0, 1))
def test_a_new_text_has_to_be_one_that_its_captioner_is_sure_of(score: float, least: float) -> None:
    class Unsure(Painter):
        def captions(self, image: list[Image.Image], count: int, **how: Any) -> Any:
            said = super().captions(image, count, **how)
            return [[replace(caption, score=score) for caption in each] for each in said]

    red = Looked(squashed(Image.new("RGB", (9, 9), COLOURS["red"]), [4, 6]), ("red thing",))
    for filters in ([], [Named(Critic(0.9), "c")]):
        recipe = CapfiltRecipe(min_confidence=least)
        (texts,) = Bootstrap([Named(Unsure(), "p")], filters, recipe).texts([red])
        web, new = texts
        assert (web.kept, web.confidence) == (True, None), "nobody knows how sure the web is"
        assert new.confidence is not None
        assert new.confidence == pytest.approx(math.exp(score), abs=1e-6)
        assert new.kept == (new.confidence >= least)


@given(st.lists(st.sampled_from(["a cat", "A cat.", "a  cat", "a dog", "", "!"])))
def test_texts_that_training_reads_as_one_are_one(captions: list[str]) -> None:
    left = [text.caption for text in unlike(map(_text, captions))]
    assert len(left) == len({"cat" in caption for caption in captions if "a" in caption.lower()})
    assert all(captions.index(caption) >= 0 for caption in left)


def test_several_models_write_and_vote() -> None:
    yes, no = Named(Critic(0.9), "y"), Named(Critic(0.4), "n")
    red = Looked(squashed(Image.new("RGB", (9, 9), COLOURS["red"]), [4, 6]), ("red thing",))
    recipe = CapfiltRecipe(captions=2, vote="majority")
    made = Bootstrap([Named(Painter(), "p"), Named(Painter(), "q")], [yes, no, yes], recipe)
    (texts,) = made.texts([red])
    # The second captioner's seed is one further: of its two captions one is new.
    assert [text.caption for text in texts] == [
        "red thing",
        "a red picture",
        "the red picture",
        "one red picture",
    ]
    assert all(text.kept and text.votes == (0.9, 0.4, 0.9) for text in texts)
    strict = Bootstrap(made.captioners, made.filters, CapfiltRecipe(vote="all"))
    assert not any(text.kept for text in strict.texts([red])[0])


def test_rounds_draw_other_words() -> None:
    looked = Looked(squashed(Image.new("RGB", (9, 9), COLOURS["red"]), [4]), ())
    said = {
        Bootstrap([Named(Painter(), "p")], [], CapfiltRecipe(round=n)).texts([looked])[0][0].caption
        for n in (1, 2)
    }
    assert len(said) == 2


def test_figures_of_a_filter_against_the_truth() -> None:
    def text(itm: float, kept: bool, caption: str) -> Text:
        return Text(caption=caption, source="web", round=1, itm=itm, itc=2 * itm - 0.99, kept=kept)

    right = {"good one": True, "fine one": True, "bad one": False, "worse one": False}
    tally = Tally(lambda picture, text: right[text.caption])
    tally.add(
        Found(
            "p",
            (text(0.9, True, "good one"), text(0.3, False, "fine one"), text(0.6, True, "bad one")),
        )
    )
    tally.add(Found("q", (text(0.1, False, "worse one"),)))
    tally.add(Found("r", skipped="broken"))
    found = tally.to_json()
    assert (found["pictures"], found["skipped"], found["without_text"]) == (3, 1, 1)
    assert found["web"]["noise_ratio"] == 0.5
    assert found["web"]["truth"] == {
        "known": 4,
        "right": 0.5,
        "right_of_kept": 0.5,
        "kept_of_right": 0.5,
        "roc_auc": 0.75,
    }
    assert sum(found["web"]["histogram"]) == 4
    cosines = [place for place, count in enumerate(found["web"]["itc_histogram"]) if count]
    assert cosines == [4, 12, 24, 36]  # of forty from -1 to 1
    assert found["web"]["diversity"]["distinct_captions"] == 1.0
    assert not any(found["web"]["confidence_histogram"])


def test_figures_of_a_captioner_that_is_sure_of_what_is_right() -> None:
    sure = {"good": 0.99, "bad": 0.5, "worse": 0.11}
    tally = Tally(lambda picture, text: text.caption == "good")
    texts = [Text(caption=c, source="synthetic", round=1, confidence=p) for c, p in sure.items()]
    tally.add(Found("p", tuple(texts)))
    found = tally.to_json()["synthetic"]
    assert found["truth"]["confidence_roc_auc"] == 1.0
    assert found["truth"]["roc_auc"] == 0.5, "no filter was asked"
    places = [place for place, count in enumerate(found["confidence_histogram"]) if count]
    assert places == [2, 10, 19]  # of twenty from 0 to 1
