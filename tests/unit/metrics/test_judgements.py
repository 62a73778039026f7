"""Exact match, NLVR2's accuracy and consistency, and means by group."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_edge.metrics import by_group, consistency, exact_match, judgements

_KEYS = st.builds(
    "{}-{}-{}-{}".format,
    st.sampled_from(["dev", "test1"]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 1),
)
_JUDGED = st.dictionaries(_KEYS, st.booleans(), min_size=1)


def _sentence(identifier: str) -> tuple[str, str, str]:
    split, number, _, sentence = identifier.split("-")
    return split, number, sentence


def test_exact_match_looks_at_letters_only() -> None:
    said = {1: "Playing Football", 2: "man", 3: "a man"}
    score = exact_match(said, {3: "man", 2: "Man", 1: "playing football"})
    assert score.per_item == {1: 1, 2: 1, 3: 0}
    assert score.mean == pytest.approx(2 / 3)


def test_nlvr2_by_hand() -> None:
    # Two sentences of set 7, one of the same number in set 8, one in another split.
    said = {
        "dev-7-0-0": True,
        "dev-7-1-0": False,
        "dev-7-0-1": True,
        "dev-7-1-1": True,
        "dev-8-0-0": False,
        "test1-7-0-0": True,
    }
    score = judgements(said, said | {"dev-7-1-1": False})
    assert score.mean == pytest.approx(5 / 6)
    whole = consistency(score.per_item)
    assert whole is not None
    assert whole.per_item == {"dev-7-0": 1, "dev-7-1": 0, "dev-8-0": 1, "test1-7-0": 1}
    assert whole.mean == pytest.approx(3 / 4)


@given(_JUDGED, st.data())
def test_one_wrong_judgement_spoils_its_sentence_only(
    truth: dict[str, bool], data: st.DataObject
) -> None:
    wrong = data.draw(st.sets(st.sampled_from(sorted(truth))))
    score = judgements({key: (key in wrong) != label for key, label in truth.items()}, truth)
    assert score.mean == pytest.approx(1 - len(wrong) / len(truth))
    whole = consistency(dict(sorted(score.per_item.items())))
    assert whole == consistency(dict(sorted(score.per_item.items(), reverse=True)))
    assert whole is not None
    spoiled, sentences = ({_sentence(key) for key in keys} for keys in (wrong, truth))
    assert whole.mean == pytest.approx(1 - len(spoiled) / len(sentences))


@pytest.mark.parametrize("odd", ["17", "dev-7-0", "dev-7-0-0-0", "dev-7-0-x", "", "dev-7-0-0.png"])
def test_without_identifiers_there_is_no_consistency(odd: str) -> None:
    assert consistency({"dev-7-0-0": 1.0, odd: 1.0}) is None


def test_groups_keep_the_order_in_which_they_come() -> None:
    found = by_group({1: 0.5, 2: 1.0, 3: 0.0}, {3: "near", 2: "out", 1: "near"})
    assert list(found.items()) == [("near", 0.25), ("out", 1.0)]


def test_what_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="nothing to score"):
        consistency({})
    metrics: list[Callable[[Any, Any], object]] = [exact_match, judgements, by_group]
    for metric in metrics:
        with pytest.raises(ValueError, match="nothing to score"):
            metric({}, {})
        with pytest.raises(ValueError, match="2 is on one side only"):
            metric({1: "a"}, {1: "a", 2: "a"})
