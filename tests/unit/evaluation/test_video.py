"""Evaluation of clips, over models that throw dice: against rankings worked out the slow way.

Each frame says in its colour which clip it is of and which frame it is.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.data.video import Sampling
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation import (
    Bootstrap,
    Crew,
    EvalSettings,
    Evaluation,
    evaluate_loaded,
    score_predictions,
    write_results,
)
from blip_edge.preprocess import Clip
from blip_edge.runtime.results import Answer

F32 = NDArray[np.float32]
CLIPS, LENGTH = 12, 20
# The texts of each clip: some have two.
TEXTS = {number: [f"text {number}", f"more {number}"][: 1 + number % 2] for number in range(CLIPS)}


class Dice:
    """Scores that have nothing to do with what is seen, but are the same each time."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        texts = [text for own in TEXTS.values() for text in own]
        vectors = rng.normal(size=(CLIPS + len(texts), 4)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.of_clip = dict(enumerate(vectors))
        self.of_text = dict(zip(texts, vectors[CLIPS:], strict=True))
        drawn = rng.normal(size=(CLIPS, len(texts))).astype(np.float32)
        self.logit = {
            (clip, text): float(drawn[clip, column])
            for clip in range(CLIPS)
            for column, text in enumerate(texts)
        }
        self.seen: list[tuple[int, tuple[int, ...]]] = []
        self.together: list[int] = []
        self.words: set[int] = set()
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def look(self, clip: Clip) -> int:
        pixels = [np.asarray(frame)[0, 0].tolist() for frame in clip.frames]
        (number,) = {pixel[0] // 20 for pixel in pixels}
        self.seen.append((number, tuple(pixel[1] // 10 for pixel in pixels)))
        return int(number)

    def embed_image(self, image: list[Clip], /) -> F32:
        self.together.append(len(image))
        return np.stack([self.of_clip[self.look(clip)] for clip in image])

    def embed_text(self, text: list[str], /, *, words: int) -> F32:
        self.words.add(words)
        return np.stack([self.of_text[one] for one in text])

    def itm_logits(self, image: Clip, texts: Sequence[str], /, *, words: int) -> F32:
        self.words.add(words)
        number = self.look(image)
        match = np.array([self.logit[number, text] for text in texts], dtype=np.float32)
        return np.stack([-match, match], axis=1)

    def answer_each(
        self, image: Clip, questions: Sequence[str], /, **how: int | None
    ) -> list[Answer]:
        number = self.look(image)
        self.asked.append((number, tuple(questions)))
        self.how = how
        return [Answer(f"{question.rstrip('?')} {number}".lower(), 1.0) for question in questions]


def lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def film(path: Path, number: int, length: int = LENGTH) -> None:
    images = [Image.new("RGB", (4, 4), (20 * number, 10 * place, 0)) for place in range(length)]
    images[0].save(path, save_all=True, append_images=images[1:])


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """A dozen clips; each has a question that `Dice` gets right, and one that it does not."""
    folder = tmp_path / "data"
    (folder / "videos").mkdir(parents=True)
    for number in range(CLIPS):
        film(folder / "videos" / f"video{number}.png", number)
    (folder / "dataset.json").write_text('{"name": "film", "version": "1", "license": "CC0-1.0"}')
    lines(
        folder / "video_retrieval_test.jsonl",
        [
            {"clip_name": f"video{number}", "caption": text}
            for turn in range(2)  # a clip's rows need not be neighbours
            for number, own in TEXTS.items()
            for text in own[turn : turn + 1]
        ],
    )
    lines(
        folder / "video_qa_test.jsonl",
        [
            {
                "question_id": 100 * turn + number,
                "clip_name": f"video{number}",
                "question": ("Who?", "Where?")[turn],
                "answer": ("WHO {}", "there")[turn].format(number),
            }
            for turn in range(2)
            for number in range(CLIPS)
        ],
    )
    return Dataset.open(folder)


def evaluated(data: Dataset, task: str, model: Any = None, **how: Any) -> Evaluation:
    return evaluate_loaded(model or Dice(), data, task, "test", EvalSettings(**how))


def slowly(model: Dice, k: int) -> dict[str, float]:
    """One query after the other: sort by cosine, read the first k, and look for the right ones."""
    owner = {text: number for number, own in TEXTS.items() for text in own}

    def places(queries: list[Any], candidates: list[Any], by_clip: bool) -> list[int]:
        found = []
        for query in queries:

            def cosine(one: Any, query: Any = query) -> float:
                clip, text = (query, one) if by_clip else (one, query)
                return float(model.of_clip[clip] @ model.of_text[text])

            def read(one: Any, query: Any = query, cosine: Any = cosine) -> float:
                pair = (query, one) if by_clip else (one, query)
                return float(model.logit[pair] + cosine(one))

            near = sorted(candidates, key=cosine, reverse=True)[:k]
            order = sorted(near, key=read, reverse=True)
            right = set(TEXTS[query]) if by_clip else {owner[query]}
            best = next((place for place, one in enumerate(order, 1) if one in right), None)
            # Whoever was not read ties with all that were not: the last place, but for its own.
            wrong = len([one for one in candidates if one not in right])
            found.append(wrong + 1 if best is None else best)
        return found

    clips, texts = list(range(CLIPS)), list(owner)
    metrics = {}
    for name, own in (("txt", places(clips, texts, True)), ("vid", places(texts, clips, False))):
        for first in (1, 5, 10):
            metrics[f"{name}_r{first}"] = 100 * sum(place <= first for place in own) / len(own)
        if name == "vid":
            metrics["vid_mdR"] = float(np.median(own))
    return metrics


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 3, 11, 128])
def test_clips_are_ranked_as_by_hand(data: Dataset, seed: int, k: int) -> None:
    model = Dice(seed)
    found = evaluated(data, "video-retrieval", model, k=k).metrics
    want = slowly(model, k)
    assert {name: found[name] for name in want} == pytest.approx(want)
    assert found["vid_r_mean"] == pytest.approx(np.mean([want[f"vid_r{k}"] for k in (1, 5, 10)]))
    assert not any(name.startswith("img") for name in found)


class Reads:
    """Finds all clips alike, and counts the texts that it is given to read."""

    reads = 0

    def embed_image(self, image: list[Clip], /) -> F32:
        return np.ones((len(image), 1), dtype=np.float32)

    def embed_text(self, text: list[str], /, *, words: int) -> F32:
        return np.ones((len(text), 1), dtype=np.float32)

    def itm_logits(self, image: Clip, texts: Sequence[str], /, *, words: int) -> F32:
        self.reads += len(texts)
        return np.zeros((len(texts), 2), dtype=np.float32)


def test_k_is_128_unless_told_otherwise(data: Dataset) -> None:
    """As BLIP is measured; there is one more clip than that here."""
    for number in range(129):
        film(data.folder / "videos" / f"video{number}.png", 0, length=1)
    rows = [{"clip_name": f"video{n}", "caption": f"text {n}"} for n in range(129)]
    lines(data.folder / "video_retrieval_test.jsonl", rows)
    reads = []
    for how in ({}, {"k": 128}, {"k": 129}):
        model = Reads()
        evaluated(data, "video-retrieval", model, frames=1, **how)
        reads.append(model.reads)
    assert reads[0] == reads[1] < reads[2] == 129 * 129


@pytest.mark.parametrize(
    ("task", "how", "want"),
    [
        ("video-retrieval", {}, [0, 3, 5, 8, 11, 14, 16, 19]),
        ("video-retrieval", {"sampling": "legacy"}, [0, 2, 4, 6, 8, 10, 12, 14]),
        ("video-retrieval", {"frames": 3}, [0, 10, 19]),
        ("video-qa", {}, [0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 16, 18, 19]),
        ("video-qa", {"frames": 2, "sampling": "legacy"}, [0, 10]),
    ],
)
def test_frames_are_those_of_the_paper_unless_told_otherwise(
    data: Dataset, task: str, how: dict[str, int | Sampling], want: list[int]
) -> None:
    model = Dice()
    evaluated(data, task, model, **how)
    assert {places for _, places in model.seen} == {tuple(want)}


def test_frames_in_memory_are_as_many_as_pictures_would_be(data: Dataset) -> None:
    many, few, one = Dice(), Dice(), Dice()
    whole = evaluated(data, "video-retrieval", many)
    assert many.together == [4, 4, 4]  # of 8 frames: 32 pictures
    assert evaluated(data, "video-retrieval", few, batch=16) == whole
    assert few.together == [2] * 6
    evaluated(data, "video-retrieval", one, batch=4)
    assert one.together == [1] * 12
    assert many.words == {40}


def test_a_clip_of_few_frames_shows_some_more_than_once(data: Dataset) -> None:
    film(data.folder / "videos" / "video0.png", 0, length=3)
    model = Dice()
    found = evaluated(data, "video-retrieval", model)
    assert found.skipped == ()
    assert dict(model.seen)[0] == (0, 0, 1, 1, 1, 1, 2, 2)


def test_what_comes_first_is_told(data: Dataset) -> None:
    model = Dice()
    found = evaluated(data, "video-retrieval", model, limit=3)
    assert [row["clip_name"] for row in found.predictions] == ["video0", "video1", "video2"]
    assert {row["caption"] for row in found.predictions} <= {"text 0", "text 1", "text 2"}
    assert found.items == 3


def test_answers_are_right_whatever_their_case(data: Dataset) -> None:
    model = Dice()
    found = evaluated(data, "video-qa", model, beams=2)
    assert found.metrics == {"accuracy": 50.0}
    assert found.items == 24
    assert found.predictions[1] == {"question_id": 1, "answer": "who 1"}
    assert found.predictions[13] == {"question_id": 101, "answer": "where 1"}
    # Each clip is shown once, with all its questions.
    assert model.asked == [(number, ("Who?", "Where?")) for number in range(CLIPS)]
    assert model.how == {"beams": 2}


def test_results_of_clips_are_scored_again(data: Dataset, tmp_path: Path) -> None:
    found = evaluated(data, "video-qa")
    write_results(found, tmp_path / "results.json")
    again = score_predictions(tmp_path / "results.json", data.folder, task="video-qa")
    assert again == found
    (tmp_path / "results.json").write_text(json.dumps(found.predictions[:-1]))
    with pytest.raises(ArtifactError, match="no answer for question_id 111"):
        score_predictions(tmp_path / "results.json", data.folder, task="video-qa")


def test_intervals_hold_the_figures(data: Dataset) -> None:
    for task in ("video-qa", "video-retrieval"):
        found = evaluated(data, task, ci=Bootstrap(resamples=200))
        assert found.intervals
        for name, one in found.intervals.items():
            assert one.low <= found.metrics[name] <= one.high
        assert set(found.metrics) - set(found.intervals) <= {"vid_mdR"}
        assert any(one.low < one.high for one in found.intervals.values()) is (task != "video-qa")


@pytest.mark.parametrize("task", ["video-qa", "video-retrieval"])
@pytest.mark.parametrize("bad", ["gone", "damaged"])
def test_clips_that_cannot_be_read_are_left_out_and_told(
    data: Dataset, task: str, bad: str
) -> None:
    path = data.folder / "videos" / "video3.png"
    if bad == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:90])
    found = evaluated(data, task, max_bad=0.1)
    assert [one.image for one in found.skipped] == ["video3"]
    assert "video3" in found.skipped[0].reason
    assert found.items == {"video-qa": 22, "video-retrieval": 11}[task]
    assert len(found.predictions) == found.items
    with pytest.raises(ArtifactError, match="1 of 12 clips cannot be read, which is too many"):
        evaluated(data, task, max_bad=0.05)


@pytest.mark.parametrize("task", ["video-qa", "video-retrieval"])
def test_a_data_set_without_clips_is_refused(data: Dataset, task: str) -> None:
    file = data.folder / f"{task.replace('-', '_')}_test.jsonl"
    file.write_text("")
    with pytest.raises(ArtifactError, match="has no rows"):
        evaluated(data, task)
    file.unlink()
    with pytest.raises(ArtifactError, match=file.name):
        evaluated(data, task)


def test_questions_need_ids_of_their_own(data: Dataset) -> None:
    file = data.folder / "video_qa_test.jsonl"
    file.write_text(file.read_text().replace('"question_id": 1,', '"question_id": 0,'))
    with pytest.raises(ArtifactError, match="question_id 0 stands in 2 rows"):
        evaluated(data, "video-qa")


def test_no_frames_are_refused() -> None:
    with pytest.raises(UsageError, match="frames must be at least 1"):
        EvalSettings(frames=0)


@pytest.mark.parametrize("task", ["video-qa", "video-retrieval"])
def test_two_processes_find_what_one_finds(data: Dataset, task: str) -> None:
    (data.folder / "videos" / "video9.png").unlink()
    alone = evaluated(data, task, max_bad=0.1)
    held: list[Any] = [None, None]
    found: list[Any] = [None, None]
    barrier = Barrier(2, timeout=20)

    def work(rank: int) -> None:
        def everyone(mine: Any) -> list[Any]:
            held[rank] = mine
            barrier.wait()
            both = list(held)
            barrier.wait()
            return both

        found[rank] = evaluated(data, task, max_bad=0.1, crew=Crew(rank, 2, everyone))

    threads = [Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone, alone]
