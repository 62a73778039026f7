"""Labels that cover nothing."""

from itertools import combinations, pairwise
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from blip_edge.benchmarks.figures import (
    Bar,
    Box,
    Point,
    latency_plot,
    pareto_front,
    place_labels,
    size_plot,
)

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


planes = st.lists(
    st.builds(
        Point,
        label=st.just("a"),
        p50_ms=st.integers(1, 6).map(float),
        quality=st.integers(0, 5).map(float),
        bundle=st.booleans(),
    ),
    max_size=8,
)


@given(planes)
def test_the_front_is_what_nobody_beats(points: list[Point]) -> None:
    front = pareto_front(points)
    assert all(point.bundle for point in front)
    for one, two in pairwise(front):  # slower is better, or the very same
        assert one == two or (one.p50_ms < two.p50_ms and one.quality < two.quality)
    for point in points:
        if point.bundle:  # somebody on the front is as fast and as good
            assert any(f.p50_ms <= point.p50_ms and f.quality >= point.quality for f in front)


def steps(points: list[Point]) -> list[list[tuple[float, ...]]]:
    """The corners of every line of the front's colour, in the plot's own coordinates."""
    text = latency_plot(points, reference=None, narrow=False, salt="s")
    lines = [
        element.get("d", "")
        for element in ElementTree.fromstring(text).iter()
        if "fill: none; stroke: var(--accent)" in element.get("style", "")
    ]
    return [
        [tuple(map(float, corner.split())) for corner in line[1:].replace("\n", "").split("L")]
        for line in lines
    ]


def test_the_front_is_drawn_where_there_is_a_choice() -> None:
    fast, good, beaten = Point("a", 1.0, 5.0), Point("b", 2.0, 9.0), Point("c", 3.0, 7.0)
    [[first, corner, last]] = steps([beaten, good, fast])
    assert corner == (last[0], first[1])  # what is reached holds until something better is
    assert first[0] < last[0] and first[1] > last[1]  # SVG counts downwards
    assert steps([good, beaten]) == []  # one beats the other: no line through one point
    assert steps([fast, Point("stage", 2.0, 9.0, bundle=False)]) == []


def test_bars_say_their_size() -> None:
    text = size_plot([Bar("a & b", 1.5, "CIDEr 9.0", True)], narrow=False, salt="s")
    labels = {element.text for element in ElementTree.fromstring(text).iter() if element.text}
    assert {"a & b", "1.50 MB · CIDEr 9.0"} <= labels
