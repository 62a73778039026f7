"""Orders: what the seed gives, whoever reads it and wherever he begins."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.errors import ArtifactError
from blip_edge.training.batches.order import Order

ROWS, BATCH, SEED, WORLD = st.integers(1, 60), st.integers(1, 9), st.integers(0, 99), (1, 2, 3, 5)


def epochs(order: Order, count: int, position: int = 0) -> list[tuple[int, int, list[int]]]:
    planned = islice(order.after(position), count * order.per_epoch - position)
    return [(one.position, one.epoch, one.rows.tolist()) for one in planned]


@settings(max_examples=80, deadline=None)
@given(rows=ROWS, batch=BATCH, seed=SEED, world=st.sampled_from(WORLD))
def test_processes_together_have_every_row_once_but_the_remainder(
    rows: int, batch: int, seed: int, world: int
) -> None:
    if rows < world:
        return
    everyone = [Order(rows, batch, seed, rank=rank, world=world) for rank in range(world)]
    read = [epochs(order, 3) for order in everyone]
    assert len({len(one) for one in read}) == 1, "everybody has equally many"
    for epoch in range(3):
        seen = [row for one in read for _, number, found in one for row in found if number == epoch]
        assert len(set(seen)) == len(seen) and set(seen) <= set(range(rows))
        left_out = rows - len(seen)
        assert left_out < min(batch, rows // world) * world


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, batch=BATCH, seed=SEED, world=st.sampled_from(WORLD))
def test_several_processes_read_what_one_with_their_batches_together_does(
    rows: int, batch: int, seed: int, world: int
) -> None:
    if rows < batch * world:
        return
    one = epochs(Order(rows, batch * world, seed), 2)
    read = [epochs(Order(rows, batch, seed, rank=rank, world=world), 2) for rank in range(world)]
    for whole, *parts in zip(one, *read, strict=True):
        assert whole[2] == [row for part in parts for row in part[2]]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, batch=BATCH, seed=SEED, start=st.integers(0, 100))
def test_a_run_goes_on_from_any_batch(rows: int, batch: int, seed: int, start: int) -> None:
    order = Order(rows, batch, seed)
    start %= 3 * order.per_epoch
    assert epochs(order, 3, start) == epochs(order, 3)[start:]
    assert [one[0] for one in epochs(order, 3)] == list(range(3 * order.per_epoch))


def test_one_generator_draws_the_epochs_one_after_another() -> None:
    generator = np.random.default_rng(7)
    expected = [generator.permutation(10)[:9].reshape(3, 3).tolist() for _ in range(2)]
    assert [rows for *_, rows in epochs(Order(10, 3, 7), 2)] == expected[0] + expected[1]


def test_few_rows_are_shared_out_evenly() -> None:
    shares = [next(Order(7, 64, 0, rank=rank, world=3).after(0)).rows.tolist() for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]


def test_fewer_rows_than_processes_are_refused() -> None:
    with pytest.raises(ArtifactError, match="2 rows are too few for 3 processes"):
        Order(2, 1, 0, world=3)


def test_epochs_come_again_after_some_views() -> None:
    once, again = Order(10, 3, 7), Order(10, 3, 7, views=2)
    first = epochs(once, 2)
    assert [rows for *_, rows in epochs(again, 4)] == [rows for *_, rows in first] * 2
    planned = list(islice(again.after(0), 4 * again.per_epoch))
    assert [one.epoch for one in planned] == [0, 0, 0, 1, 1, 1] * 2
    assert [one.position for one in planned] == list(range(12)), "a run goes on from its own number"
    later = next(again.after(7))
    assert later.rows.tolist() == planned[7].rows.tolist() == planned[1].rows.tolist()
