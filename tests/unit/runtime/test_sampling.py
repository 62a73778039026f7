"""Drawing tokens, against distributions written down by hand and a draw in plain Python."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation
from blip_edge.runtime.decoding import Hypothesis, greedy_search, sample, search
from blip_edge.runtime.engine import F32
from blip_edge.runtime.rules import apply_rules
from blip_edge.runtime.sampling import distribution, draw
from tests.unit.runtime.tables import BOS, EOS, GENERATION, Table, assert_rules, prompts

DRAWN = replace(GENERATION, num_beams=1, do_sample=True, max_length=9)
HOW = st.builds(
    replace,
    st.just(DRAWN),
    num_return_sequences=st.integers(1, 4),
    min_length=st.integers(0, 6),
    repetition_penalty=st.sampled_from([0.8, 1.0, 1.5]),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 2, 5, 20]),
    top_p=st.sampled_from([0.3, 0.9, 1.0]),
)


def generators(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def drawn(table: Table, how: Generation, *seeds: int) -> list[list[Hypothesis]]:
    session = table.session(how.num_return_sequences)
    return search(session, prompts(len(seeds)), how, generators=generators(*seeds))


def logits(*probabilities: float) -> F32:
    with np.errstate(divide="ignore"):
        found: F32 = np.log(np.asarray([probabilities])).astype(np.float32)
    return found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [0.5, 0.125, 0.25, 0.125]),
        ({"temperature": 0.5}, [16 / 22, 1 / 22, 4 / 22, 1 / 22]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 2}, [2 / 3, 0, 1 / 3, 0]),
        ({"top_k": 3}, [0.5, 0.125, 0.25, 0.125]),  # the last two tie
        ({"top_k": 9}, [0.5, 0.125, 0.25, 0.125]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"top_p": 0.49}, [1, 0, 0, 0]),
        ({"top_p": 0.51}, [2 / 3, 0, 1 / 3, 0]),
        ({"top_p": 0.74}, [2 / 3, 0, 1 / 3, 0]),
        ({"top_p": 0.76}, [4 / 7, 1 / 7, 2 / 7, 0]),  # of a tie the first
        ({"top_p": 0.88}, [0.5, 0.125, 0.25, 0.125]),
        ({"top_k": 2, "top_p": 0.6}, [1, 0, 0, 0]),  # 2/3 after the other two have gone
        ({"temperature": 0.5, "top_p": 0.7}, [1, 0, 0, 0]),  # 16/22 at this temperature
        ({"temperature": 1e-300}, [1, 0, 0, 0]),
    ],
)
def test_what_may_be_drawn_and_how_likely(change: dict[str, Any], expected: list[float]) -> None:
    found = distribution(logits(0.5, 0.125, 0.25, 0.125), replace(DRAWN, **change))
    np.testing.assert_allclose(found, [expected], atol=1e-6)
    np.testing.assert_array_equal(found > 0, [np.asarray(expected) > 0])


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.0, 0.1, 1.0, 5.0]),
    top_p=st.floats(0.001, 0.999),
    vocabulary=st.integers(1, 200),
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(
    seed: int, scale: float, top_p: float, vocabulary: int
) -> None:
    scores = np.random.default_rng(seed).normal(size=(2, vocabulary)).astype(np.float32) * scale
    every = distribution(scores, DRAWN)
    for before, after in zip(every, distribution(scores, replace(DRAWN, top_p=top_p)), strict=True):
        kept = np.sort(before[after > 0])
        assert kept.sum() >= top_p - 1e-9
        assert kept[1:].sum() < top_p + 1e-9
        assert kept[0] >= before[after == 0].max(initial=0)
        np.testing.assert_allclose(after[after > 0], before[after > 0] / kept.sum())


def test_of_a_tie_top_p_keeps_the_first() -> None:
    scores = np.random.default_rng(0).integers(0, 3, size=(1, 400)).astype(np.float32)
    found = distribution(scores, replace(DRAWN, top_p=0.8))
    likeliest_first = sorted(range(400), key=lambda token: (-scores[0, token], token))
    kept = np.flatnonzero(found[0])
    assert kept.tolist() == sorted(likeliest_first[: len(kept)])


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    how, count, vocabulary = replace(DRAWN, temperature=1.3, top_k=20, top_p=0.95), 20_000, 30
    scores = np.random.default_rng(4).normal(size=(1, vocabulary)).astype(np.float32) * 2
    expected = distribution(scores, how)[0] * count
    rows = np.repeat(scores, count, axis=0)
    tokens = draw(rows, np.ones(count, dtype=np.bool_), how, generators(0))
    found = np.bincount(tokens, minlength=vocabulary)
    able = expected > 0
    assert 5 < able.sum() < 20
    assert not found[~able].any()
    # Chi-square has its mean at the degrees of freedom and twice that as its variance.
    chi_square = float(((found - expected)[able] ** 2 / expected[able]).sum())
    degrees = float(able.sum()) - 1
    assert chi_square < degrees + 4 * (2 * degrees) ** 0.5


class _Numbers(np.random.Generator):
    """A generator that has the numbers it is given, and no others."""

    def __init__(self, *numbers: float) -> None:
        super().__init__(np.random.PCG64())
        self._numbers = list(numbers)

    def random(self, count: int) -> NDArray[np.float64]:  # type: ignore[override]
        taken, self._numbers = self._numbers[:count], self._numbers[count:]
        return np.asarray(taken)


def test_no_number_draws_a_token_that_may_not_be_drawn() -> None:
    scores = np.repeat(logits(0, 0.5, 0, 0.25, 0.25, 0), 5, axis=0)
    below = np.nextafter(np.float64(1), 0)
    numbers = _Numbers(0.0, 0.499, 0.501, 0.749, below)
    tokens = draw(scores, np.ones(5, dtype=np.bool_), DRAWN, [numbers])
    assert tokens.tolist() == [1, 1, 3, 3, 4]
    # Nor where rounding leaves the probabilities' sum below 1.
    scores = np.random.default_rng(0).normal(size=(50, 1000)).astype(np.float32)
    tokens = draw(scores, np.ones(50, dtype=np.bool_), DRAWN, [_Numbers(*[below] * 50)])
    assert (tokens < 1000).all()


@settings(max_examples=60, deadline=None)
@given(how=HOW, seed=st.integers(0, 10_000))
def test_every_caption_keeps_the_rules(how: Generation, seed: int) -> None:
    table = Table(seed, 3, 8)
    found = drawn(table, how, 1, 2, 3)
    assert [len(hypotheses) for hypotheses in found] == [how.num_return_sequences] * 3
    for image, hypotheses in enumerate(found):
        for hypothesis in hypotheses:
            assert_rules(table, image, hypothesis, (BOS,), how)
        assert all(a.score >= b.score for a, b in pairwise(hypotheses))


@settings(max_examples=60, deadline=None)
@given(how=HOW, seed=st.integers(0, 10_000))
def test_sequence_s_takes_the_number_t_times_all_plus_s(how: Generation, seed: int) -> None:
    """Whatever ended before or stands beside."""
    table, count = Table(seed, 2, 8), how.num_return_sequences
    for image, hypotheses in enumerate(drawn(table, how, seed, seed + 1)):
        numbers = np.random.default_rng(seed + image).random((how.max_length, count))
        expected = [_one(table, image, numbers[:, s], how) for s in range(count)]
        assert Counter(one.token_ids for one in hypotheses) == Counter(expected)


def _one(
    table: Table, image: int, numbers: NDArray[np.float64], how: Generation
) -> tuple[int, ...]:
    tokens: tuple[int, ...] = (BOS,)
    for number in numbers:
        used = np.asarray([tokens], dtype=np.int32)
        scores = apply_rules(table.logits(image, tokens)[None], used, how, keep=True)
        total, token = 0.0, -1
        for likely in distribution(scores, how)[0]:
            if total > number:
                break
            total, token = total + float(likely), token + 1
        tokens += (token,)
        if token == EOS or len(tokens) == how.max_length:
            break
    return tokens


@settings(max_examples=60, deadline=None)
@given(how=HOW, seed=st.integers(0, 10_000))
def test_a_batch_draws_what_single_pictures_draw(how: Generation, seed: int) -> None:
    table, count = Table(seed, 4, 8), how.num_return_sequences
    shared = generators(*range(4))
    prompt = np.asarray([[BOS, 3], [BOS, 4], [BOS, 5], [BOS, 3]], dtype=np.int32)
    together = sample(table.session(count), prompt, how, generators=shared)
    for n in range(4):
        (own,) = generators(n)
        session = table.session(count, [n])
        alone = sample(session, prompt[n : n + 1], how, generators=[own])
        assert alone == together[n : n + 1]
        assert own.random() == shared[n].random()  # nor is what is drawn next any different


def test_a_seed_draws_the_same_again_and_another_does_not() -> None:
    table, how = Table(0, 4, 8), replace(DRAWN, num_return_sequences=3)
    assert drawn(table, how, 1, 2, 3, 4) == drawn(table, how, 1, 2, 3, 4)
    assert drawn(table, how, 1, 2, 3, 4) != drawn(table, how, 1, 2, 3, 5)


@settings(max_examples=40, deadline=None)
@given(how=HOW, seed=st.integers(0, 10_000))
def test_with_one_token_to_draw_from_it_is_greedy_search(how: Generation, seed: int) -> None:
    table = Table(seed, 3, 8)
    expected = greedy_search(table.session(1), prompts(3), how)
    for narrow in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-9}):
        one = replace(how, num_return_sequences=1, **narrow)
        assert drawn(table, one, 1, 2, 3) == expected


def test_tokens_are_told_as_they_come() -> None:
    table = Table(3, 3, 8)
    told: dict[int, list[int]] = {0: [], 1: [], 2: []}
    found = search(
        table.session(1),
        prompts(3),
        DRAWN,
        generators=generators(1, 2, 3),
        on_token=lambda picture, token: told[picture].append(token),
    )
    assert [tuple(told[n]) for n in range(3)] == [one.token_ids[1:] for (one,) in found]
    with pytest.raises(UsageError, match="one caption per picture, not 2"):
        search(
            table.session(2),
            prompts(3),
            replace(DRAWN, num_return_sequences=2),
            generators=generators(1, 2, 3),
            on_token=lambda picture, token: None,
        )


def test_each_picture_needs_a_generator_of_its_own() -> None:
    table = Table(0, 2, 8)
    shared = np.random.default_rng(0)
    for given_, message in (
        (None, "one random generator per picture, not 0 for 2"),
        ([shared], "not 1 for 2"),
        ([shared, shared], "may not share a random generator"),
    ):
        with pytest.raises(UsageError, match=message):
            search(table.session(1), prompts(2), DRAWN, generators=given_)


def test_logits_that_are_not_numbers_are_named() -> None:
    table = Table(0, 1, 8)
    table.values[...] = np.nan
    with pytest.raises(ArtifactError, match="not numbers"):
        drawn(table, replace(DRAWN, top_k=3, top_p=0.5), 1)
