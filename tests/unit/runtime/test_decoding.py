"""Search over decoders that are tables, against every sequence there is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation
from blip_edge.runtime.decoding import beam_search, greedy_search, log_softmax, search
from tests.unit.runtime.tables import (
    BOS,
    EOS,
    GENERATION,
    PAD,
    Table,
    assert_rules,
    every_caption,
    prompts,
)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    min_length=st.sampled_from([0, 4]),
    length_penalty=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]),
    repetition_penalty=st.sampled_from([0.8, 1.0, 1.5]),
    wanted=st.integers(1, 8),
)
def test_with_room_for_all_beam_search_finds_the_best_there_are(
    seed: int, min_length: int, length_penalty: float, repetition_penalty: float, wanted: int
) -> None:
    table = Table(seed, 1, 3)
    how = replace(
        GENERATION,
        num_beams=40,
        num_return_sequences=wanted,
        min_length=min_length,
        length_penalty=length_penalty,
        repetition_penalty=repetition_penalty,
        early_stopping="never",
    )
    (found,) = search(table.session(40), prompts(1), how)
    captions = every_caption(3, (BOS,), how)
    assert {one.token_ids for one in found} <= set(captions)
    assert len({one.token_ids for one in found}) == len(found) == wanted
    ranks = [table.rank(0, one.token_ids, 1, how) for one in found]
    best = sorted((table.rank(0, caption, 1, how) for caption in captions), reverse=True)
    assert ranks == pytest.approx(best[:wanted], abs=1e-4)
    for one in found:
        assert_rules(table, 0, one, (BOS,), how)


def test_where_there_are_fewer_captions_beam_search_returns_those() -> None:
    table = Table(0, 1, 3)
    how = replace(GENERATION, num_beams=9, num_return_sequences=9, max_length=3)
    (found,) = beam_search(table.session(9), prompts(1), how)
    assert {one.token_ids for one in found} == set(every_caption(3, (BOS,), how))
    assert len(found) == 7


def test_greedy_search_follows_the_largest_logit() -> None:
    table = Table(0, 3, 6)
    found = greedy_search(table.session(1), prompts(3), replace(GENERATION, num_beams=1))
    for image, (hypothesis,) in enumerate(found):
        tokens: tuple[int, ...] = (BOS,)
        while len(tokens) < 6 and tokens[-1] != EOS:
            tokens += (int(table.logits(image, tokens).argmax()),)
        assert hypothesis.token_ids == tokens


HOW = st.builds(
    Generation,
    bos_token_id=st.just(BOS),
    eos_token_id=st.just(EOS),
    pad_token_id=st.just(PAD),
    num_beams=st.integers(1, 4),
    min_length=st.integers(0, 8),
    max_length=st.integers(8, 10),
    length_penalty=st.sampled_from([-1.0, 0.0, 0.6, 1.0, 2.0]),
    early_stopping=st.sampled_from([True, False, "never"]),
    repetition_penalty=st.sampled_from([0.8, 1.0, 1.5]),
    prompt=st.just(""),
)


@settings(max_examples=60, deadline=None)
@given(how=HOW, seed=st.integers(0, 10_000), images=st.integers(1, 4), wanted=st.integers(1, 4))
def test_every_caption_keeps_the_rules(
    how: Generation, seed: int, images: int, wanted: int
) -> None:
    table = Table(seed, images, 8)
    how = replace(how, num_return_sequences=min(wanted, how.num_beams))
    found = search(table.session(how.num_beams), prompts(images, BOS, 5), how)
    assert len(found) == images
    for image, hypotheses in enumerate(found):
        assert len(set(hypotheses)) == how.num_return_sequences
        for hypothesis in hypotheses:
            assert_rules(table, image, hypothesis, (BOS, 5), how)
        ranks = [table.rank(image, one.token_ids, 2, how) for one in hypotheses]
        assert ranks == sorted(ranks, reverse=True)


@settings(max_examples=60, deadline=None)
@given(how=HOW, seed=st.integers(0, 10_000))
def test_pictures_of_one_batch_do_not_influence_each_other(how: Generation, seed: int) -> None:
    table = Table(seed, 4, 8)
    how = replace(how, num_return_sequences=how.num_beams)
    prompt = np.asarray([[BOS, 3], [BOS, 4], [BOS, 5], [BOS, 3]], dtype=np.int32)
    together = search(table.session(how.num_beams), prompt, how)
    for n in range(4):
        alone = search(table.session(how.num_beams, [n]), prompt[n : n + 1], how)
        assert alone == together[n : n + 1]


def test_tokens_are_told_as_they_come() -> None:
    table = Table(3, 4, 6)
    session = table.session(1)
    told: list[tuple[int, int, int]] = []
    found = search(
        session,
        prompts(4, BOS, 5),
        replace(GENERATION, num_beams=1, min_length=4, max_length=9),
        on_token=lambda picture, token: told.append((session.steps, picture, token)),
    )
    assert [step for step, _, _ in told] == sorted(step for step, _, _ in told)
    assert len({len(one.token_ids) for (one,) in found}) > 1  # one ends while others go on
    for picture, (hypothesis,) in enumerate(found):
        own = [(step, token) for step, place, token in told if place == picture]
        assert own == list(enumerate(hypothesis.token_ids[2:], start=1))


def test_beams_may_still_be_dropped_and_are_not_told() -> None:
    with pytest.raises(UsageError, match="one beam and one caption per picture, not 2"):
        search(
            Table(0, 1, 6).session(2),
            prompts(1),
            replace(GENERATION, num_beams=2),
            on_token=lambda picture, token: None,
        )


def test_search_stops_when_nothing_can_get_better() -> None:
    table = Table(1, 1, 8)
    table.values[..., EOS] += 8
    how = replace(GENERATION, num_beams=2, max_length=10)
    for beams in (
        replace(how, early_stopping=True),
        replace(how, early_stopping=False),
        replace(how, early_stopping="never", length_penalty=0.0),
    ):
        session = table.session(2)
        beam_search(session, prompts(1), beams)
        assert session.steps < 5
    session = table.session(1)
    greedy_search(session, prompts(1), how)
    assert session.steps == 1


def test_a_prompt_that_fills_the_caption_is_refused() -> None:
    table = Table(0, 1, 8)
    for beams in (1, 2):
        how = replace(GENERATION, num_beams=beams, max_length=4)
        with pytest.raises(UsageError, match="4 tokens: give at least 5"):
            search(table.session(beams), prompts(1, BOS, 3, 4, 5), how)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("beams", [1, 3])
def test_logits_that_are_not_numbers_are_named(beams: int, wrong: float) -> None:
    table = Table(0, 1, 8)
    table.values[:] = wrong
    with pytest.raises(ArtifactError, match="not numbers"):
        search(table.session(beams), prompts(1), replace(GENERATION, num_beams=beams))


@pytest.mark.parametrize("beams", [1, 3])
def test_a_decoder_that_only_allows_the_end_too_early_is_named(beams: int) -> None:
    table = Table(0, 1, 8)
    table.values[...] = -np.inf
    table.values[..., EOS] = 0
    how = replace(GENERATION, num_beams=beams, min_length=5)
    with pytest.raises(ArtifactError, match="no token to go on with"):
        search(table.session(beams), prompts(1), how)


def test_log_softmax_is_stable() -> None:
    values = log_softmax(np.asarray([[1000.0, 1000.0], [-1000.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(values, [[-np.log(2), -np.log(2)], [-1000, 0]], atol=1e-6)
    assert values.dtype == np.float32
