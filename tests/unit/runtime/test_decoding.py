"""Search over decoders that are tables, against every sequence there is."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation
from blip_edge.runtime.decoding import (
    Hypothesis,
    beam_search,
    greedy_search,
    log_softmax,
    search,
)
from blip_edge.runtime.engine import F32, I32

EOS, PAD, BOS = 1, 0, 2
GENERATION = Generation(
    bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, min_length=0, max_length=6, prompt=""
)


class Table:
    """Logits by picture, place, last token and the token before it."""

    def __init__(self, seed: int, images: int, vocabulary: int, length: int = 12) -> None:
        random = np.random.default_rng(seed)
        shape = (images, length, vocabulary, vocabulary, vocabulary)
        self.values = random.normal(size=shape).astype(np.float32) * 2

    def logits(self, image: int, tokens: tuple[int, ...]) -> F32:
        before = tokens[-2] if len(tokens) > 1 else 0
        row: F32 = self.values[image, len(tokens), tokens[-1], before]
        return row

    def session(self, beams: int, images: list[int] | None = None) -> "TableSession":
        chosen = list(range(len(self.values))) if images is None else images
        return TableSession(self, [image for image in chosen for _ in range(beams)])

    def log_probability(self, image: int, tokens: tuple[int, ...], start: int) -> float:
        """Sum over the tokens from `start` on, in float64."""
        total = 0.0
        for n in range(start, len(tokens)):
            row = self.logits(image, tokens[:n]).astype(np.float64)
            total += float(row[tokens[n]] - np.log(np.exp(row).sum()))
        return total


class TableSession:
    def __init__(self, table: Table, images: list[int]) -> None:
        self._table, self._images = table, images
        self._rows: list[tuple[int, ...]] = [()] * len(images)
        self.steps = 0

    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        assert len(input_ids) == len(beam_idx) == len(self._rows)
        beams = len(self._images) // len(set(self._images))
        assert (beam_idx // beams == np.arange(len(beam_idx)) // beams).all()  # own picture only
        self.steps += 1
        self._rows = [
            self._rows[row] + tuple(new)
            for row, new in zip(beam_idx, input_ids.tolist(), strict=True)
        ]
        pairs = zip(self._images, self._rows, strict=True)
        return np.stack([self._table.logits(image, row) for image, row in pairs])


def prompts(images: int, *ids: int) -> I32:
    return np.tile(np.asarray(ids or (BOS,), dtype=np.int32), (images, 1))


def every_caption(
    vocabulary: int, start: tuple[int, ...], how: Generation
) -> list[tuple[int, ...]]:
    """All token sequences that a search may return."""
    captions = []
    others = [token for token in range(vocabulary) if token != EOS]
    for length in range(how.max_length - len(start)):
        for words in product(others, repeat=length):
            if len(start) + length >= how.min_length:
                captions.append((*start, *words, EOS))
    return captions + [
        (*start, *words) for words in product(others, repeat=how.max_length - len(start))
    ]


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("min_length", [0, 4])
@pytest.mark.parametrize("seed", range(4))
def test_with_room_for_all_beam_search_finds_the_best_there_is(
    seed: int, min_length: int, length_penalty: float
) -> None:
    table = Table(seed, 1, 3)
    how = replace(
        GENERATION,
        num_beams=40,
        min_length=min_length,
        length_penalty=length_penalty,
        early_stopping="never",
    )

    def rank(caption: tuple[int, ...]) -> float:
        total = table.log_probability(0, caption, 1)
        return total / float((len(caption) - 1) ** length_penalty)

    best = max(every_caption(3, (BOS,), how), key=rank)
    (found,) = beam_search(table.session(40), prompts(1), how)
    assert found.token_ids == best
    mean = table.log_probability(0, best, 1) / (len(best) - 1)
    assert found.score == pytest.approx(mean, abs=1e-5)


def test_greedy_search_follows_the_largest_logit() -> None:
    table = Table(0, 3, 6)
    found = greedy_search(table.session(1), prompts(3), replace(GENERATION, num_beams=1))
    for image, hypothesis in enumerate(found):
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
@given(how=HOW, seed=st.integers(0, 10_000), images=st.integers(1, 4))
def test_every_caption_keeps_the_rules(how: Generation, seed: int, images: int) -> None:
    table = Table(seed, images, 8)
    found = search(table.session(how.num_beams), prompts(images, BOS, 5), how)
    assert len(found) == images
    for image, hypothesis in enumerate(found):
        tokens = hypothesis.token_ids
        assert tokens[:2] == (BOS, 5)
        assert EOS not in tokens[:-1]
        assert len(tokens) <= how.max_length
        assert tokens[-1] == EOS or len(tokens) == how.max_length
        assert tokens[-1] != EOS or len(tokens) - 1 >= how.min_length
        mean = table.log_probability(image, tokens, 2) / (len(tokens) - 2)
        assert hypothesis.score == pytest.approx(mean, abs=1e-4)  # penalties are not in it


@settings(max_examples=60, deadline=None)
@given(how=HOW, seed=st.integers(0, 10_000))
def test_pictures_of_one_batch_do_not_influence_each_other(how: Generation, seed: int) -> None:
    table = Table(seed, 4, 8)
    together = search(table.session(how.num_beams), prompts(4), how)
    alone = [search(table.session(how.num_beams, [n]), prompts(1), how)[0] for n in range(4)]
    assert together == alone


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


@pytest.mark.parametrize("beams", [1, 3])
def test_logits_that_are_not_numbers_are_named(beams: int) -> None:
    table = Table(0, 1, 8)
    table.values[:] = np.nan
    with pytest.raises(ArtifactError, match="not numbers"):
        search(table.session(beams), prompts(1), replace(GENERATION, num_beams=beams))


def test_logits_of_the_engine_are_left_alone() -> None:
    table = Table(0, 2, 8)
    before = table.values.copy()
    how = replace(GENERATION, num_beams=1, min_length=4, repetition_penalty=2.0)
    found: list[Hypothesis] = greedy_search(table.session(1), prompts(2), how)
    assert len(found) == 2
    np.testing.assert_array_equal(table.values, before)


def test_log_softmax_is_stable() -> None:
    values = log_softmax(np.asarray([[1000.0, 1000.0], [-1000.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(values, [[-np.log(2), -np.log(2)], [-1000, 0]], atol=1e-6)
    assert values.dtype == np.float32
