"""Whose turn it is, and when turns end."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blip_edge.benchmarks.protocol as room
from blip_edge.benchmarks.protocol import Turn, take_turns
from tests.unit.benchmarks.fake_worker import FakeWorker, asked, quick


def make_turns(names: str) -> tuple[list[Turn], list[tuple[str, tuple[str, ...]]]]:
    log: list[tuple[str, tuple[str, ...]]] = []
    workers = [FakeWorker(name) for name in names]
    for worker in workers:
        worker.log = log
    return [Turn(worker=worker) for worker in workers], log


def test_turns_go_forth_and_back_over_the_same_pictures() -> None:
    turns, log = make_turns("ab")
    take_turns(turns, asked("1", "2", "3"), quick())
    assert log == [
        ("a", ("1", "2")),  # warm-up, cut to three captions each
        ("b", ("1", "2")),
        ("a", ("3",)),
        ("b", ("3",)),
        ("a", ("1", "2")),
        ("b", ("1", "2")),
        ("b", ("3", "1")),
        ("a", ("3", "1")),
        ("a", ("2", "3")),
        ("b", ("2", "3")),
    ]
    assert [len(turn.samples) for turn in turns] == [6, 6]
    assert [sample["image"] for sample in turns[0].samples] == [0, 1, 2, 0, 1, 2]


@given(
    bundles=st.integers(1, 4), runs=st.integers(1, 30), burst=st.integers(1, 7),
    pictures=st.integers(1, 5),
)  # fmt: skip
def test_everybody_gets_the_same(bundles: int, runs: int, burst: int, pictures: int) -> None:
    turns, log = make_turns("abcd"[:bundles])
    recipe = quick(runs=runs, burst=burst, warmup=0)
    take_turns(turns, asked(*map(str, range(pictures))), recipe)
    shares = {name: [images for who, images in log if who == name] for name, _ in log}
    assert len({json.dumps(share) for share in shares.values()}) == 1
    assert all(runs <= len(turn.samples) < runs + burst for turn in turns)
    # Nobody is ever ahead of another by more than the two bursts around a turning point.
    for end in range(len(log)):
        counts = [sum(who == name for who, _ in log[:end]) for name in shares]
        assert max(counts) - min(counts) <= 1


def test_seconds_are_reached_and_max_seconds_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(room, "perf_counter", lambda: float(next(clock)))  # a burst takes a second
    turns, _ = make_turns("a")
    take_turns(turns, asked("1"), quick(runs=1, seconds=5.0))
    assert len(turns[0].samples) == 10
    turns, _ = make_turns("a")
    take_turns(turns, asked("1"), quick(runs=1000, seconds=5.0, max_seconds=3.0))
    assert len(turns[0].samples) == 6
