"""Work on many cores, results in order."""

import time
from collections.abc import Iterator
from itertools import count, islice

import pytest

from blip_edge.data.parallel import in_order


def test_results_have_the_order_of_the_items() -> None:
    def work(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number * number

    assert list(in_order(work, range(200))) == [number * number for number in range(200)]
    assert list(in_order(work, [])) == []


def test_an_error_comes_out_in_its_place() -> None:
    found = in_order(lambda number: 1 // (3 - number), range(9))
    assert list(islice(found, 3)) == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_only_a_few_items_are_taken_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    assert list(islice(in_order(str, items()), 5)) == ["0", "1", "2", "3", "4"]
    assert len(taken) < 10_000
