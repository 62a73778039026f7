"""The standard bench: its page says what its record says, and guessing is worth what it should."""

import json
from pathlib import Path

import numpy as np
import pytest

from blip_edge.data.shapes import ShapesRecipe, make
from blip_edge.metrics import text_ranks
from tests.project.test_readme_numbers import program_of


def test_the_readme_says_what_the_record_says() -> None:
    program = program_of("standard_bench")
    record = json.loads(program.RECORD.read_text(encoding="utf-8"))
    readme = program.README.read_text(encoding="utf-8")
    assert program.BEGIN in readme
    assert program.with_table(readme, record) == readme
    assert [line["task"] for line in record["lines"]] == [line.task for line in program.LINES]


def test_every_measured_figure_lies_in_its_interval_and_above_chance() -> None:
    program = program_of("standard_bench")
    record = json.loads(program.RECORD.read_text(encoding="utf-8"))
    for line, found in zip(program.LINES, record["lines"], strict=True):
        low, high = found["interval"]
        assert low <= found["metrics"][line.metric] <= high, line
        scale = 100 if line.metric == "truth" else 1
        assert scale * low > found["chance"], f"{line} is no better than guessing"


def test_guesses_are_worth_what_a_count_says(tmp_path: Path) -> None:
    recipe = ShapesRecipe(
        train=30, val=8, test=10, unseen=2, web=0, objects=1, image_size=24, dialogs=2, clips=4
    )
    data = make(tmp_path / "data", recipe).folder
    found = program_of("standard_chance").chances(data)
    assert found["video-retrieval"] == 25
    assert found["visdial"] == pytest.approx(np.mean(1 / np.arange(1, 101)) * 100)
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(10), 5)
    firsts = [owner[rng.permutation(50)] for _ in range(4000)]
    by_image = [100 * np.mean([0 in first[:k] for first in firsts]) for k in (1, 5, 10)]
    by_text = [100 * k / 10 for k in (1, 5, 10)]
    assert found["retrieval"] == pytest.approx(np.mean(by_image + by_text), abs=1)
    assert 0 < found["vqa"] < 100


def test_no_search_has_more_than_shared_texts_allow(tmp_path: Path) -> None:
    recipe = ShapesRecipe(
        train=30,
        val=8,
        test=40,
        unseen=2,
        web=0,
        objects=1,
        colours=2,
        shapes=2,
        image_size=24,
        dialogs=2,
        clips=4,
    )
    dataset = make(tmp_path / "data", recipe)
    most = program_of("standard_most").most(dataset.folder)
    rows = dataset.retrieval("test")
    texts = np.asarray([text for row in rows for text in row.captions])
    owner = np.repeat(np.arange(len(rows)), [len(row.captions) for row in rows])
    fits = np.asarray([np.isin(texts, row.captions) for row in rows])  # (I, T)
    places = np.full(len(rows), len(texts))
    for first in set(texts):
        found = text_ranks(fits + (texts == first), owner)
        mine = np.asarray([first in row.captions for row in rows])
        places = np.where(mine, np.minimum(places, found), places)
    assert most["txt_r1"] == pytest.approx(100 * np.mean(places == 1))
    assert 0 < most["txt_r1"] < 100

    rng = np.random.default_rng(0)
    names, name_of = np.unique(texts, return_inverse=True)
    shuffled = [rng.random((len(names), len(rows)))[name_of] + fits.T for _ in range(400)]
    hits = [np.mean(scores.argmax(axis=1) == owner) for scores in shuffled]
    assert most["img_r1"] == pytest.approx(100 * np.mean(hits), abs=1)
