import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from blip_edge.exporters.parity import (
    EXACT_DB,
    Difference,
    Forcing,
    Gate,
    compare,
    forced_logits,
    make_forcing,
)
from blip_edge.exporters.recipe import ExportRecipe
from blip_edge.runtime.engine import F32, I32, Task

SMALL = st.floats(-100, 100, width=32, allow_subnormal=False)


def test_a_difference_by_hand() -> None:
    expected = np.array([3.0, 4.0], dtype=np.float32)
    found = compare(expected, np.array([3.0, 4.4], dtype=np.float32))
    assert found.max_abs_diff == pytest.approx(0.1)  # 0.4 of the largest value, 4
    assert found.psnr_db == pytest.approx(10 * math.log10(16 / (0.16 / 2)), abs=1e-3)


def test_below_one_the_difference_is_absolute() -> None:
    found = compare(np.array([0.1], dtype=np.float32), np.array([0.2], dtype=np.float32))
    assert found.max_abs_diff == pytest.approx(0.1)


@pytest.mark.parametrize("actual", [np.zeros((2, 1)), np.array([np.nan, 0.0])])
def test_another_shape_or_a_nan_passes_no_gate(actual: F32) -> None:
    found = compare(np.zeros(2, dtype=np.float32), actual.astype(np.float32))
    assert not Gate(max_abs_diff=1e9).passes(found)
    assert not Gate(psnr_db=-1e9).passes(found)


@given(arrays.arrays(np.float32, (3, 4), elements=SMALL), st.floats(0.125, 64, width=32))
def test_equal_is_exact_and_psnr_does_not_depend_on_scale(values: F32, scale: float) -> None:
    assert compare(values, values) == Difference(0.0, EXACT_DB)
    other = values + np.float32(1)
    if not np.abs(values).max():
        return
    scaled = compare(values * np.float32(scale), other * np.float32(scale))
    assert scaled.psnr_db == pytest.approx(compare(values, other).psnr_db, abs=0.01)


def test_the_gate_follows_the_precision() -> None:
    recipe = ExportRecipe(max_abs_diff=0.01, fp16_psnr=50.0, int8_psnr=30.0)
    assert Gate.of("fp32", recipe) == Gate(max_abs_diff=0.01)
    assert Gate.of("fp16", recipe) == Gate(psnr_db=50.0)
    assert Gate.of("int8", recipe) == Gate(psnr_db=30.0)
    for gate in (Gate(max_abs_diff=0.01), Gate(psnr_db=30.0)):
        assert Gate.from_json(gate.to_json()) == gate
    assert Gate(psnr_db=30.0).passes(Difference(1.0, 30.0))
    assert not Gate(psnr_db=30.0).passes(Difference(0.0, 29.9))
    assert Gate(psnr_db=30.0).explain(Difference(0.0, 29.9)) == "PSNR 29.9 dB (at least 30.0)"


class _Recorder:
    """Whatever is asked, logits that say which call it was."""

    tasks: tuple[Task, ...] = ("caption",)
    max_images = 1

    def __init__(self) -> None:
        self.calls: list[tuple[I32, I32]] = []

    def encode(self, pixel_values: F32) -> F32:
        return pixel_values

    def start(self, cross: F32, rows: int) -> "_Recorder":
        return self

    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        self.calls.append((input_ids, beam_idx))
        return np.full((len(input_ids), 2), len(self.calls), dtype=np.float32)


def test_dictation_feeds_the_prompt_at_once_and_then_a_token_with_its_order() -> None:
    engine = _Recorder()
    forcing = Forcing(
        ids=np.array([[9, 8, 1, 2], [9, 8, 3, 4]], dtype=np.int32),
        orders=np.array([[0, 1], [0, 1], [1, 0], [1, 1]], dtype=np.int32),
        prompt=2,
    )
    logits = forced_logits(engine, np.zeros((1, 3, 2, 2), dtype=np.float32), forcing)
    assert logits[:, 0, 0].tolist() == [1, 2, 3]
    assert [ids.tolist() for ids, _ in engine.calls] == [[[9, 8], [9, 8]], [[1], [3]], [[2], [4]]]
    assert [order.tolist() for _, order in engine.calls] == [[0, 1], [1, 0], [1, 1]]


def test_dictated_words_start_with_the_prompt_and_are_the_same_at_every_call() -> None:
    first, second = (make_forcing((7, 6), rows=3, tokens=9, vocabulary=20) for _ in range(2))
    assert first.ids.shape == (3, 9) and first.orders.shape == (9, 3)
    assert (first.ids[:, :2] == [7, 6]).all() and first.prompt == 2
    assert (first.ids == second.ids).all() and (first.orders == second.orders).all()
    assert first.ids.max() < 20 and set(first.orders.flat) == {0, 1, 2}


def test_a_prompt_longer_than_the_positions_is_cut() -> None:
    assert make_forcing((7, 6, 5), rows=1, tokens=3, vocabulary=9).prompt == 2
