"""Searches that come to the end of a model's positions."""

import numpy as np
import pytest

from blip_edge.errors import UsageError
from blip_edge.runtime.engine import F32, I32
from blip_edge.runtime.room import Room


class Echo:
    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        return input_ids.astype(np.float32)


def step(room: Room, tokens: int) -> F32:
    return room.step(np.ones((2, tokens), dtype=np.int32), np.arange(2, dtype=np.int32))


@pytest.mark.parametrize("prompt", [1, 3, 5])
def test_the_last_position_can_be_filled_and_none_after_it(prompt: int) -> None:
    room = Room(Echo(), 5)
    step(room, prompt)
    for _ in range(5 - prompt):
        step(room, 1)
    with pytest.raises(UsageError, match="holds 5 tokens; ask for a smaller max_length"):
        step(room, 1)


def test_a_bundle_that_does_not_say_how_many_there_are_is_not_held_up() -> None:
    room = Room(Echo(), 0)
    assert [step(room, 200).shape for _ in range(3)] == [(2, 200)] * 3
