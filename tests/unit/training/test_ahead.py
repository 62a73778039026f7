"""Working ahead: the same as working when asked, and nothing is left running."""

import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest

from blip_edge.training.batches.ahead import ahead


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_jobs(workers: int) -> None:
    def slow_at_first(job: int) -> int:
        time.sleep(0.002 * (job % 3 == 0))
        return job * job

    assert list(ahead(range(20), slow_at_first, workers=workers)) == [n * n for n in range(20)]
    assert not running()


def test_no_more_is_done_ahead_than_two_jobs_a_worker() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for job in count():
            taken.append(job)
            yield job

    results = ahead(jobs(), lambda job: job, workers=2)
    assert taken == [], "nothing is read before it is asked for"
    assert next(results) == 0
    assert len(taken) == 4
    results.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_arrives_in_its_turn(workers: int) -> None:
    def work(job: int) -> int:
        if job == 3:
            raise ValueError("three")
        return job

    results = ahead(count(), work, workers=workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert not running()


def test_whoever_stops_early_leaves_no_thread() -> None:
    done: list[int] = []
    results = ahead(count(), done.append, workers=3)
    next(results)
    assert running()
    results.close()
    assert not running()
    finished = len(done)
    time.sleep(0.02)
    assert len(done) == finished
