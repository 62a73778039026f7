"""Labels that cover nothing."""

from itertools import combinations
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from blip_edge.benchmarks.figures import Bar, Box, Point, latency_plot, place_labels, size_plot

FRAME = Box(0, 0, 600, 300)
SIZE = (120.0, 14.0)
RADIUS = 6.0
# What may remain after adding and subtracting a few hundreds in float64.
ROUNDING = 1e-6


def marker(point: tuple[float, float]) -> Box:
    x, y = point
    return Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS)


@given(
    st.lists(st.tuples(st.floats(30, 570), st.floats(30, 270)), min_size=1, max_size=5, unique=True)
)
def test_labels_cover_no_label_and_stay_in_the_frame(points: list[tuple[float, float]]) -> None:
    boxes = place_labels(points, [SIZE] * len(points), FRAME, radius=RADIUS)
    for one, two in combinations(boxes, 2):
        assert one.overlap(two) <= ROUNDING
    for box in boxes:
        assert box.outside(FRAME) <= ROUNDING
        assert all(box.overlap(marker(point)) <= ROUNDING for point in points)


def test_a_lonely_label_stands_to_the_right() -> None:
    [box] = place_labels([(100.0, 100.0)], [SIZE], FRAME)
    assert box.left > 100.0
    assert box.bottom < 100.0 < box.top


def test_what_is_taken_is_left_alone() -> None:
    words = Box(106, 80, 300, 120)
    [box] = place_labels([(100.0, 100.0)], [SIZE], FRAME, taken=[words])
    assert box.overlap(words) == 0


def test_distance_to_a_box() -> None:
    box = Box(0, 0, 10, 10)
    assert box.distance((5, 5)) == 0
    assert box.distance((13, 14)) == 5


def test_plots_are_svg_for_one_point_and_for_equal_ones() -> None:
    for points in ([Point("a", 3.0, 0.0)], [Point("a", 3.0, 5.0)] * 3, [Point("a", 1e-3, 1.0)]):
        ElementTree.fromstring(latency_plot(points, reference=None, narrow=False, salt="s"))


def test_a_wide_range_of_times_is_drawn_by_decades() -> None:
    points = [Point("fast", 2.0, 100.0), Point("slow", 900.0, 101.0)]
    text = latency_plot(points, reference=102.0, narrow=True, salt="s")
    labels = {element.text for element in ElementTree.fromstring(text).iter() if element.text}
    assert {"10", "100", "fast, 2.00 ms", "slow, 900 ms", "teacher 102.0"} <= labels


def test_bars_say_their_size() -> None:
    text = size_plot([Bar("a & b", 1.5, "CIDEr 9.0", True)], narrow=False, salt="s")
    labels = {element.text for element in ElementTree.fromstring(text).iter() if element.text}
    assert {"a & b", "1.50 MB · CIDEr 9.0"} <= labels
