"""The search for how few layers must go back to float."""

from hypothesis import given
from hypothesis import strategies as st

from blip_edge.quantize.fallback import fewest


@given(limit=st.integers(0, 300), needed=st.integers(0, 320))
def test_the_fewest_is_found_with_few_questions(limit: int, needed: int) -> None:
    asked: list[int] = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count >= needed

    found = fewest(limit, holds)
    assert found == (needed if needed <= limit else None)
    assert len(asked) == len(set(asked)), "a measurement is not made twice"
    assert max(asked) <= limit and len(asked) <= 2 * max(limit, 1).bit_length() + 2


def test_a_noisy_measurement_still_gives_a_count_that_held() -> None:
    luck = {0: False, 1: False, 2: True, 3: False}
    assert fewest(3, luck.__getitem__) == 2
