"""Ranking of answers over decoders that are tables, against every answer read out by itself."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.runtime.ranking import Ranked, rank
from tests.unit.runtime.tables import BOS, EOS, GENERATION, Table, TableSession

VOCABULARY = 8
ANSWERS = st.lists(
    st.lists(st.sampled_from([n for n in range(VOCABULARY) if n != EOS]), min_size=1, max_size=5),
    min_size=1,
    max_size=14,
    unique_by=tuple,
)


class Starts:
    """Sessions for the one question of a table, and how large they were."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.sessions: list[TableSession] = []
        self.rows: list[int] = []

    def __call__(self, rows: int) -> TableSession:
        self.rows.append(rows)
        self.sessions.append(self._table.session(rows, [0]))
        return self.sessions[-1]


def ended(answers: list[list[int]]) -> list[list[int]]:
    return [[*answer, EOS] for answer in answers]


def best_first(scores: list[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda n: (-scores[n], n))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    answers=ANSWERS.map(ended),
    max_rows=st.sampled_from([None, 1, 2, 3, 5, 20]),
)
def test_answers_are_ranked_by_how_likely_they_are(
    seed: int, answers: list[list[int]], max_rows: int | None
) -> None:
    table = Table(seed, 1, VOCABULARY)
    starts = Starts(table)
    found = rank(starts, answers, GENERATION, max_rows=max_rows)
    scores = [table.log_probability(0, (BOS, *answer), 1) for answer in answers]
    assert sorted(one.index for one in found) == list(range(len(answers)))
    assert [one.log_prob for one in found] == pytest.approx(sorted(scores, reverse=True), abs=1e-4)
    assert [one.log_prob for one in found] == pytest.approx([scores[o.index] for o in found])
    weights = np.exp([one.log_prob for one in found])
    assert [one.probability for one in found] == pytest.approx(weights / weights.sum())
    assert starts.rows[0] == 1 and sum(starts.rows[1:]) == len(answers)
    assert max(starts.rows) <= (max_rows or len(answers))


def test_the_probabilities_of_all_answers_there_are_are_the_decoders() -> None:
    table = Table(1, 1, 3, length=6)
    table.values[:, 4] = np.asarray([-90, 90, -90])  # by then every answer ends
    others = [n for n in range(3) if n != EOS]
    answers = [[*words, EOS] for length in range(1, 4) for words in product(others, repeat=length)]
    silence = np.exp(table.log_probability(0, (BOS, EOS), 1))
    found = rank(Starts(table), answers, GENERATION)
    for one in found:
        assert one.probability == pytest.approx(np.exp(one.log_prob) / (1 - silence), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), answers=ANSWERS.map(ended), k=st.integers(1, 15))
def test_only_those_with_the_likeliest_first_tokens_are_read_out(
    seed: int, answers: list[list[int]], k: int
) -> None:
    table = Table(seed, 1, VOCABULARY)
    starts = Starts(table)
    firsts = [table.log_probs(0, (BOS, answer[0]), 1)[0] for answer in answers]
    found = rank(starts, answers, GENERATION, k=k)
    # Those with the same first token are equal here, and the earlier ones get in.
    assert sorted(one.index for one in found) == sorted(best_first(firsts)[:k])
    assert starts.rows == [1, min(k, len(answers))]
    assert sum(one.probability for one in found) == pytest.approx(1)


def test_equal_answers_of_a_decoder_that_knows_nothing_keep_their_order() -> None:
    table = Table(0, 1, VOCABULARY)
    table.values[...] = 1
    answers = ended([[3], [4, 5], [5], [6, 6], [0]])
    assert [one.index for one in rank(Starts(table), answers, GENERATION)] == [0, 2, 4, 1, 3]
    assert [one.index for one in rank(Starts(table), answers, GENERATION, k=3)] == [0, 2, 1]


def test_of_answers_that_are_equally_likely_the_earlier_comes_first() -> None:
    table = Table(0, 1, VOCABULARY)
    table.values[...] = -1e4
    table.values[0, 1, BOS, 0, [3, 4]] = 0, 1  # the later one has the likelier first token
    table.values[0, 2, 3, BOS, [EOS, 5]] = 1, 0
    table.values[0, 2, 4, BOS, [EOS, 5]] = 0, 1
    first, second = rank(Starts(table), ended([[3], [4]]), GENERATION)
    assert (first.index, second.index) == (0, 1)
    assert first.log_prob == second.log_prob


def test_answers_of_like_lengths_are_read_out_together() -> None:
    starts = Starts(Table(0, 1, VOCABULARY))
    answers = ended([[3, 3, 3, 3], [4], [5, 5, 5, 5], [6]])
    rank(starts, answers, GENERATION, max_rows=2)
    assert [session.steps for session in starts.sessions] == [1, 1, 4]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("max_rows", [None, 3])
def test_the_score_is_the_training_loss(smoothing: float, max_rows: int | None) -> None:
    import torch

    table = Table(5, 1, VOCABULARY)
    random = np.random.default_rng(0)
    answers = [[*random.integers(3, VOCABULARY, size=1 + n % 5).tolist(), EOS] for n in range(12)]
    answers = [list(answer) for answer in dict.fromkeys(map(tuple, answers))]
    found = rank(Starts(table), answers, GENERATION, max_rows=max_rows, label_smoothing=smoothing)
    for one in found:
        tokens = (BOS, *answers[one.index])
        logits = np.stack([table.logits(0, tokens[:n]) for n in range(1, len(tokens))])
        loss = torch.nn.functional.cross_entropy(
            torch.from_numpy(logits),
            torch.tensor(tokens[1:]),
            label_smoothing=smoothing,
            reduction="none",
        )
        assert one.log_prob == pytest.approx(-float(loss.sum()), abs=1e-4)
    assert [one.log_prob for one in found] == sorted((one.log_prob for one in found), reverse=True)


def test_label_smoothing_can_change_the_order() -> None:
    def order(seed: int, smoothing: float) -> list[int]:
        answers = ended([[3], [4, 5], [5, 3, 6], [6, 7, 7, 7], [7]])
        found = rank(
            Starts(Table(seed, 1, VOCABULARY)), answers, GENERATION, label_smoothing=smoothing
        )
        return [one.index for one in found]

    assert any(order(seed, 0.0) != order(seed, 0.1) for seed in range(10))


def test_an_answer_that_comes_again_is_the_first_one() -> None:
    starts = Starts(Table(2, 1, VOCABULARY))
    answers = ended([[3], [4, 5], [3], [4, 5], [5]])
    found = rank(starts, answers, GENERATION)
    assert sorted(one.index for one in found) == [0, 1, 4]
    assert sum(one.probability for one in found) == pytest.approx(1)
    assert starts.rows == [1, 3]


def test_one_answer_is_certain() -> None:
    (only,) = rank(Starts(Table(0, 1, VOCABULARY)), ended([[3, 4]]), GENERATION)
    assert only == Ranked(0, only.log_prob, 1.0)


@pytest.mark.parametrize(
    ("answers", "settings_", "message"),
    [
        ([], {}, "no answers to rank"),
        ([[3, EOS], []], {}, r"answer 1 \(counted from 0\) does not end in its only \[SEP\]"),
        ([[3, 4]], {}, "does not end"),
        ([[3, EOS, 4, EOS]], {}, "does not end"),
        ([[3, EOS], [EOS]], {}, "answer 1 .* has no words"),
        ([[3, EOS]], {"k": 0}, "k must be at least 1"),
        ([[3, EOS]], {"label_smoothing": 1.0}, "label_smoothing must be"),
        ([[3, EOS]], {"label_smoothing": -0.1}, "label_smoothing must be"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    answers: list[list[int]], settings_: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        rank(Starts(Table(0, 1, VOCABULARY)), answers, GENERATION, **settings_)


def _first(table: Table) -> None:
    table.values[:, 1] = np.nan


def _later(table: Table) -> None:
    table.values[:, 2] = np.nan


@pytest.mark.parametrize("spoil", [_first, _later])
def test_logits_that_are_not_numbers_are_named(spoil: Callable[[Table], None]) -> None:
    table = Table(0, 1, VOCABULARY)
    spoil(table)
    with pytest.raises(ArtifactError, match="not numbers"):
        rank(Starts(table), ended([[3], [4]]), GENERATION)
