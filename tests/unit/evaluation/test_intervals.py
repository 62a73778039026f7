"""Intervals of every task's figures: what is drawn, what they hold, and when they are there."""

import json
import time
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from blip_edge.data import Dataset
from blip_edge.evaluation import Bootstrap, CaptionSet, EvalSettings, Evaluation, evaluate_loaded
from blip_edge.evaluation.agreement import judge_captions
from blip_edge.evaluation.nlvr2 import judge_sentences
from blip_edge.evaluation.references import Sample
from blip_edge.metrics import bleu, rouge_l
from tests.unit.evaluation.conftest import write
from tests.unit.evaluation.rule import COLOURS, Rule

TASKS = ["caption", "vqa", "nlvr2", "retrieval", "pairs", "attributes"]


def found(data: Dataset, task: str, **how: Any) -> Evaluation:
    settings = EvalSettings(**{"ci": Bootstrap(), **how})
    return evaluate_loaded(Rule(wrong="white"), data, task, "test", settings)


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_has_one_that_holds_it(data: Dataset, task: str) -> None:
    one = found(data, task)
    assert one.intervals is not None
    assert list(one.intervals) == list(one.metrics)
    for name, interval in one.intervals.items():
        assert interval.low - 1e-9 <= one.metrics[name] <= interval.high + 1e-9, name
    # The three verdicts are about one sentence: nothing is known of others.
    moves = any(interval.low < interval.high for interval in one.intervals.values())
    assert moves == (task != "nlvr2")
    shown = one.as_json()["intervals"]
    assert shown == {name: [each.low, each.high] for name, each in one.intervals.items()}


def test_dialogs_have_them_too(talk: Dataset) -> None:
    one = evaluate_loaded(Rule(wrong="blue"), talk, "visdial", "test", EvalSettings(ci=Bootstrap()))
    assert one.intervals is not None
    assert set(one.intervals) == set(one.metrics) > {"MRR", "NDCG", "mean_rank"}
    # Of the two dialogs that were judged both are right; one of the four that were not is wrong.
    assert (one.intervals["NDCG"].low, one.intervals["R@1"].low) == (100, 25)
    assert 1 <= one.intervals["mean_rank"].low < 1.75 < one.intervals["mean_rank"].high


@pytest.mark.parametrize("task", TASKS)
def test_nobody_gets_them_unasked(data: Dataset, task: str) -> None:
    plain = found(data, task, ci=None)
    assert plain.intervals is None
    assert "intervals" not in plain.as_json()
    assert replace(found(data, task), intervals=None) == plain


def test_the_seed_decides(data: Dataset) -> None:
    how = [Bootstrap(seed=seed, resamples=7) for seed in (1, 1, 2)]
    first, again, other = (found(data, "retrieval", ci=ci).intervals for ci in how)
    assert first == again != other


def test_verdicts_about_a_sentence_are_drawn_together(data: Dataset) -> None:
    """Asked of ten pairs each and answered alike, three sentences are still three."""
    rows = data.sentences("test")
    said = {row.identifier: row.label for row in rows} | {rows[0].identifier: not rows[0].label}
    once, again = judge_sentences("test", rows, said, ci=Bootstrap()), []
    for pair in range(10):
        for number, row in enumerate(rows):
            identifier = f"test-{number}-{pair}-0"
            again.append(replace(row, identifier=identifier))
            said[identifier] = said[row.identifier]
    many = judge_sentences(
        "test",
        again,
        {row.identifier: said[row.identifier] for row in again},
        ci=Bootstrap(),
    )
    assert many.metrics["accuracy"] == pytest.approx(once.metrics["accuracy"])
    assert many.intervals is not None and once.intervals is not None
    # The single rows of `once` are a sentence each, too.
    assert many.intervals["accuracy"].low == pytest.approx(0)
    assert many.intervals["accuracy"].high == pytest.approx(100)
    assert many.intervals["consistency"] == many.intervals["accuracy"]


def test_texts_go_with_their_picture(data: Dataset) -> None:
    """Thirty texts a picture tell no more about pictures than one does."""
    rows = [{"image": f"{c}.png", "caption": [f"a {c} one"] * 30} for c in COLOURS]
    write(
        data.folder, "retrieval_test.json", [{**row, "caption": row["caption"][:1]} for row in rows]
    )
    once = found(data, "retrieval")
    write(data.folder, "retrieval_test.json", rows)
    many = found(data, "retrieval")
    assert once.intervals is not None and many.intervals is not None
    assert many.intervals["img_r1"] == once.intervals["img_r1"]


@pytest.mark.parametrize(
    ("task", "file"),
    [("vqa", "vqa_test"), ("pairs", "pairs_test"), ("attributes", "attributes_test")],
)
def test_pictures_are_drawn_with_all_that_is_asked_of_them(
    data: Dataset, task: str, file: str
) -> None:
    """What is asked ten times of a picture, and answered alike, tells no more of other pictures."""
    once = found(data, task)
    document = json.loads((data.folder / f"{file}.json").read_text())
    rows = document["annotations"] if task == "attributes" else document
    rows[:] = [row | {"question_id": n} for n, row in enumerate(rows * 10)]
    write(data.folder, f"{file}.json", document)
    many = found(data, task)
    assert many.items == 10 * once.items
    assert once.intervals is not None and many.intervals is not None
    for name, one in once.intervals.items():
        assert (many.intervals[name].low, many.intervals[name].high) == pytest.approx(
            (one.low, one.high)
        ), name


def test_recalls_of_resamples_are_those_of_what_was_drawn(data: Dataset) -> None:
    """Of four pictures one has no place among the first: R@1 is a count of three in four."""
    one = found(data, "retrieval", ci=Bootstrap(level=0.999))
    assert one.intervals is not None
    assert one.metrics["txt_r1"] == 75
    assert one.intervals["txt_r1"].low <= 25 < 100 == one.intervals["txt_r1"].high
    low = {name: each.low for name, each in one.intervals.items()}
    assert low["r_mean"] >= min(low.values())


WORDS = ["a red one", "something else that is rather long for what it says", "a one", "all white"]


def _bleu(said: dict[int, str], meant: dict[int, Any]) -> float:
    return bleu(said, meant)[0].mean


def _rouge(said: dict[int, str], meant: dict[int, Any]) -> float:
    return rouge_l(said, meant).mean


@pytest.mark.parametrize(("name", "score"), [("BLEU-1", _bleu), ("ROUGE-L", _rouge)])
def test_a_resample_is_scored_as_a_set(data: Dataset, name: str, score: Any) -> None:
    """Against all resamples of four that there are, each of which is as likely."""
    captions = CaptionSet.read(data.folder, "test")
    said = {one.image_id: text for one, text in zip(captions.samples, WORDS, strict=True)}
    one = judge_captions(captions, said, ci=Bootstrap(level=0.8, resamples=4000))
    meant = [each.references for each in captions.samples]
    every = [
        100
        * score(
            {n: WORDS[number] for n, number in enumerate(chosen)},
            {n: meant[number] for n, number in enumerate(chosen)},
        )
        for chosen in product(range(4), repeat=4)
    ]
    low, high = np.quantile(every, [0.1, 0.9])
    assert one.intervals is not None
    assert one.intervals[name].low == pytest.approx(low, abs=1)
    assert one.intervals[name].high == pytest.approx(high, abs=1)


def test_five_thousand_pictures_take_seconds(data: Dataset) -> None:
    captions = CaptionSet.read(data.folder, "test")
    samples = tuple(Sample(n, str(n), ("a red one", f"word{n}")) for n in range(5000))
    many = replace(captions, samples=samples)
    said: dict[int | str, str] = {n: f"a word{n % 7} one" for n in range(5000)}
    start = time.process_time()
    judge_captions(many, said, ci=Bootstrap())
    assert time.process_time() - start < 15  # most of it for the metrics themselves


def test_json_can_hold_them(data: Dataset) -> None:
    json.dumps(found(data, "caption").as_json(), allow_nan=False)
