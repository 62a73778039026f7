"""VQA accuracy against leaving people out one by one, and against a table by hand."""

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_edge.metrics import by_group, vqa_accuracy

EXACT = 1e-12
_WORDS = st.sampled_from(["yes", "no", "2", "cat"])
_PEOPLE = st.lists(_WORDS, min_size=4, max_size=12)


def one(said: str, people: list[str], *, symmetric: bool = False) -> float:
    return vqa_accuracy({1: said}, {1: people}, symmetric=symmetric).mean


@pytest.mark.parametrize(
    ("matches", "expected"),
    # 1 of 10: nine times 1/3, once 0. 2: 8 · 2/3 + 2 · 1/3. 3: 7 · 1 + 3 · 2/3.
    [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)],
)
def test_accuracy_by_hand(matches: int, expected: float) -> None:
    people = ["yes"] * matches + ["no"] * (10 - matches)
    assert one("yes", people) == pytest.approx(expected, abs=EXACT)


@given(_WORDS, _PEOPLE)
def test_accuracy_is_its_definition(said: str, people: list[str]) -> None:
    shares = []
    for place in range(len(people)):
        others = people[:place] + people[place + 1 :]
        shares.append(min(1, others.count(said) / 3))
    assert one(said, people) == pytest.approx(fmean(shares), abs=EXACT)


@given(_WORDS, _PEOPLE)
def test_the_order_of_people_does_not_matter(said: str, people: list[str]) -> None:
    turned = sorted(people)
    assert one(said, people) == one(said, turned) == one(said, turned[::-1])


@pytest.mark.parametrize(
    ("said", "people", "expected", "symmetric"),
    [
        # The prediction is always normalised, people's answers never wholly.
        ("Two.", ["2"] * 10, 1, 0),
        ("the cat", ["the cat"] * 10, 0, 1),
        ("two", ["two"] * 10, 0, 1),
        ("two", ["two"] * 6 + ["3"] * 4, 0, 1),
        ("the cat", ["the cat"] * 9 + ["dog"], 0, 1),
        # Punctuation of people goes only where they differ.
        ("tshirt", ["t-shirt"] * 10, 0, 0),
        ("t shirt", ["t-shirt"] * 10, 0, 0),
        ("t-shirt", ["t-shirt"] * 10, 0, 1),
        ("t-shirt", ["t-shirt"] * 9 + ["shirt"], 1, 1),
        ("t shirt", ["t-shirt"] * 9 + ["shirt"], 1, 1),
        # Where people agree, the younger rule leaves the prediction alone as well.
        ("Yes", ["yes"] * 10, 1, 0),
        ("yes\n", ["yes "] * 10, 0, 1),
        # Case of people stays under the older rule.
        ("Stop", ["STOP"] * 9 + ["go"], 0, 1),
    ],
)
def test_who_is_normalised(said: str, people: list[str], expected: int, symmetric: int) -> None:
    assert one(said, people) == expected
    assert one(said, people, symmetric=True) == symmetric


def test_the_figure_of_a_set_and_of_its_types() -> None:
    said = {"a": "yes", "b": "2", "c": "cat"}
    people = {"c": ["dog"] * 10, "a": ["yes"] * 10, "b": ["2"] + ["3"] * 9}
    score = vqa_accuracy(said, people)
    assert score.per_item == pytest.approx({"a": 1, "b": 0.3, "c": 0}, abs=EXACT)
    assert score.mean == pytest.approx(1.3 / 3, abs=EXACT)
    types = {"a": "yes/no", "b": "number", "c": "other"}
    assert by_group(score.per_item, types) == pytest.approx(
        {"yes/no": 1, "number": 0.3, "other": 0}
    )
    assert by_group(score.per_item, dict.fromkeys(said, "all")) == pytest.approx(
        {"all": score.mean}
    )


@pytest.mark.parametrize(
    ("said", "people", "complaint"),
    [
        ({}, {}, "nothing to score"),
        ({1: "a"}, {2: ["a"] * 10}, "one side only"),
        ({1: "a"}, {1: ["a"] * 10, 2: ["a"] * 10}, "2 is on one side only"),
        ({1: "a"}, {1: ["a"] * 3}, "1 has 3 answers"),
        ({1: "a"}, {1: []}, "1 has 0 answers"),
    ],
)
def test_what_cannot_be_scored(
    said: dict[int, str], people: dict[int, list[str]], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        vqa_accuracy(said, people)
