"""Bootstrap intervals against what is known of the distributions that they estimate."""

from collections.abc import Callable
from statistics import fmean
from time import process_time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.metrics import Bootstrap, Interval, bleu, bleu_counts, bleu_of, interval, roc_auc

CLOSE = 1e-9


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(1)


def test_two_items_are_drawn_as_they_must_be() -> None:
    # Means 0, 1/2 and 1 of the values 0 and 1 come in 1/4, 1/2 and 1/4 of the resamples.
    assert Bootstrap().mean([0, 1]) == Interval(0, 1)
    assert Bootstrap(level=0.4).mean([0, 1]) == Interval(0.5, 0.5)
    assert Bootstrap(level=0.4).figure(lambda drawn: float(drawn.mean()), 2) == Interval(0.5, 0.5)
    assert Bootstrap(level=0.6).mean([0, 1]) == Interval(0, 1)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_the_interval_of_a_mean_is_the_normal_one(
    level: float, random: np.random.Generator
) -> None:
    widths = {0.5: 0.6745, 0.9: 1.6449, 0.95: 1.96}
    values = random.normal(3, 2, size=2500)
    found = Bootstrap(level=level, resamples=4000).mean(values)
    error = values.std() / 50
    expected = values.mean() + np.array([-1, 1]) * widths[level] * error
    assert [found.low, found.high] == pytest.approx(expected, abs=0.12 * error)


def test_intervals_hold_the_truth_as_often_as_they_say(random: np.random.Generator) -> None:
    intervals = [
        Bootstrap(resamples=300, seed=seed).mean(random.random(150) < 0.3) for seed in range(300)
    ]
    held = [one.low <= 0.3 <= one.high for one in intervals]
    assert 0.9 < fmean(held) < 0.98


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 5))
@settings(max_examples=40)
def test_an_interval_lies_within_the_values_and_repeats(values: list[float], seed: int) -> None:
    ci = Bootstrap(resamples=50, seed=seed)
    found = ci.mean(values)
    assert min(values) - CLOSE <= found.low <= found.high <= max(values) + CLOSE
    assert found == ci.mean(values)
    wider = Bootstrap(resamples=50, seed=seed, level=0.99).mean(values)
    assert wider.low <= found.low <= found.high <= wider.high


def test_another_seed_draws_others(random: np.random.Generator) -> None:
    values = random.random(100)
    assert Bootstrap(seed=0).mean(values) != Bootstrap(seed=1).mean(values)


def test_memory_does_not_change_the_result(
    monkeypatch: pytest.MonkeyPatch, random: np.random.Generator
) -> None:
    values = random.random(37)
    found = Bootstrap().mean(values)
    monkeypatch.setattr(interval, "_AT_A_TIME", 100)
    parted = Bootstrap().mean(values)
    assert [parted.low, parted.high] == pytest.approx([found.low, found.high], abs=CLOSE)


def test_what_is_alike_is_drawn_together(random: np.random.Generator) -> None:
    # Ten rounds of a dialogue that say the same are one observation, not ten.
    dialogs = random.random(200)
    rounds, names = np.repeat(dialogs, 10), np.repeat(np.arange(200), 10)
    whole = Bootstrap().mean(dialogs)
    together = Bootstrap().mean(rounds, clusters=names)
    assert [together.low, together.high] == pytest.approx([whole.low, whole.high], abs=CLOSE)
    apart = Bootstrap().mean(rounds)
    assert apart.high - apart.low < 0.5 * (whole.high - whole.low)


def test_clusters_of_different_size_weigh_by_it() -> None:
    found = Bootstrap(level=0.01).mean([0, 0, 0, 1], clusters=["a", "a", "a", "b"])
    assert found == Interval(0.25, 0.25)  # the mean of both clusters, which half of the draws are


def test_sums_decide_bleu(random: np.random.Generator) -> None:
    words = ["a", "red", "dog", "cat", "runs", "sits"]
    texts = [" ".join(random.choice(words, 6)) for _ in range(80)]
    said, meant = dict(enumerate(texts[:40])), {n: [text] for n, text in enumerate(texts[40:])}
    counts = bleu_counts(said, meant)
    for order, score in enumerate(bleu(said, meant)):
        assert bleu_of(counts.sum(axis=0))[order] == score.mean

    ci = Bootstrap(resamples=200)

    def again(drawn: Any) -> float:
        chosen = enumerate(drawn.tolist())
        picked = [(n, said[one], meant[one]) for n, one in chosen]
        return bleu({n: s for n, s, _ in picked}, {n: m for n, _, m in picked})[1].mean

    by_sums = ci.sums(counts, lambda sums: bleu_of(sums)[:, 1])
    drawn_anew = ci.figure(again, 40)
    assert by_sums.low == pytest.approx(drawn_anew.low, abs=0.03)
    assert by_sums.high == pytest.approx(drawn_anew.high, abs=0.03)


def test_strata_keep_both_labels(random: np.random.Generator) -> None:
    labels = np.array([1] * 2 + [0] * 60)
    scores = labels + random.normal(size=62)
    found = Bootstrap(resamples=300).figure(
        lambda drawn: roc_auc(scores[drawn], labels[drawn]), 62, strata=labels
    )
    assert found.low <= roc_auc(scores, labels) <= found.high


def test_every_stratum_keeps_its_number() -> None:
    kinds = np.array(["a", "b", "a", "c"])

    def same(drawn: Any) -> float:
        return float(sorted(kinds[drawn]) == ["a", "a", "b", "c"])

    assert Bootstrap(resamples=20).figure(same, 4, strata=kinds) == Interval(1, 1)


def test_two_thousand_resamples_of_five_thousand_items_are_quick(
    random: np.random.Generator,
) -> None:
    values = random.random(5000)
    began = process_time()
    Bootstrap().mean(values)
    assert process_time() - began < 1


@pytest.mark.parametrize(
    ("draw", "complaint"),
    [
        (lambda ci: ci.mean([]), "nothing to draw"),
        (lambda ci: ci.mean([[1.0]]), "nothing to draw"),
        (lambda ci: ci.mean([1.0, np.nan]), "NaN"),
        (lambda ci: ci.mean([1.0, 2.0], clusters=[1]), "2 values, but clusters"),
        (lambda ci: ci.sums([1.0], lambda sums: sums[:, 0]), "nothing to draw"),
        (lambda ci: ci.sums([[1.0]], lambda sums: sums), "figures of shape"),
        (lambda ci: ci.sums([[1.0]], lambda sums: sums[:, 0] * np.nan), "metric is NaN"),
        (lambda ci: ci.figure(len, 0), "nothing to draw"),
        (lambda ci: ci.figure(len, 2, strata=[1]), "2 items, but strata"),
        (lambda ci: ci.figure(lambda drawn: float("nan"), 2), "metric is NaN"),
    ],
)
def test_what_cannot_be_drawn(draw: Callable[[Bootstrap], Interval], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        draw(Bootstrap(resamples=3))


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"level": 0.0}, {"level": 1.0}])
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Bootstrap(**wrong)
