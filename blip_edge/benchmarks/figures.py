"""The report's plots, as SVG that is part of the page and takes the page's colours.

Matplotlib draws with stand-in colours that are then replaced by the page's CSS variables, and
leaves words as words, so that one drawing reads well in light, in dark and on paper.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from math import hypot
from typing import TYPE_CHECKING

from blip_edge.benchmarks.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Bar", "Box", "Point", "latency_plot", "pareto_front", "place_labels", "size_plot"]

# Stand-ins that nothing else draws with -> the page's own colours.
_INK, _MUTED, _GRID = "#0a0b0c", "#0a0b0d", "#0a0b0e"
_ACCENT, _SECOND, _SURFACE = "#0a0b0f", "#0a0b10", "#0a0b11"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--grid)",
    _ACCENT: "var(--accent)",
    _SECOND: "var(--second)",
    _SURFACE: "var(--surface)",
}
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_DPI = 72  # matplotlib's SVG counts in points, so that sizes on the page are those given here
_LOG_FROM = 20.0  # slowest over fastest
_RADIUS = 6.0  # of a marker, in points
_SLACK = 10.0
_CLEAR = 4.0  # points between a label and whatever is next to it


@dataclass(frozen=True)
class Point:
    """A bundle, or a stage that was timed, in the plane of quality and latency."""

    label: str
    p50_ms: float
    quality: float
    bundle: bool = True


@dataclass(frozen=True)
class Bar:
    """A stage or bundle with its size."""

    label: str
    megabytes: float
    note: str
    bundle: bool


@dataclass(frozen=True)
class Box:
    """A rectangle, in points."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """Area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(wide, 0.0) * max(high, 0.0)

    def nearest(self, point: tuple[float, float]) -> tuple[float, float]:
        """The place in this rectangle that is nearest to `point`."""
        x, y = point
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)

    def distance(self, point: tuple[float, float]) -> float:
        """From `point` to the nearest place in this rectangle."""
        x, y = self.nearest(point)
        return hypot(point[0] - x, point[1] - y)

    def outside(self, frame: "Box") -> float:
        """Area that sticks out of `frame`."""
        area = (self.right - self.left) * (self.top - self.bottom)
        return area - self.overlap(frame)


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The bundles that no other one beats: none is at least as fast and as good, and better in one.

    They come by latency, the fastest first; of equal ones all are there.
    """
    bundles = [point for point in points if point.bundle]

    def beats(one: Point, other: Point) -> bool:
        no_worse = one.p50_ms <= other.p50_ms and one.quality >= other.quality
        return no_worse and (one.p50_ms, one.quality) != (other.p50_ms, other.quality)

    front = [point for point in bundles if not any(beats(other, point) for other in bundles)]
    return sorted(front, key=lambda point: point.p50_ms)


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    *,
    radius: float = _RADIUS,
    taken: Iterable[Box] = (),
) -> list[Box]:
    """Where to write each point's label so that it covers no point, no label, and not the frame.

    Labels are placed in order, each at the nearest free place around its point; where there is
    none, at the one that covers least.

    Args:
        points: centres of the markers.
        sizes: (width, height) of the labels.
        frame: what the labels have to stay in.
        radius: of the markers.
        taken: rectangles that are occupied already.
    """
    busy = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    busy += taken
    placed: list[Box] = []
    for point, size in zip(points, sizes, strict=True):

        def cost(box: Box) -> float:
            return sum(box.overlap(other) for other in busy) + box.outside(frame)

        best = min(_around(point, size, radius + _CLEAR), key=cost)  # min keeps the first, nearest
        placed.append(best)
        busy.append(best)
    return placed


def _around(point: tuple[float, float], size: tuple[float, float], gap: float) -> list[Box]:
    (x, y), (wide, high) = point, size
    boxes = []
    for far in (1.0, 2.0, 3.5, 5.0, 7.0, 9.0):
        step = gap * far
        sides = [(step, -high / 2), (-step - wide, -high / 2)]
        sides += [(-wide / 2, step), (-wide / 2, -step - high)]
        sides += [(step, step), (-step - wide, step), (step, -step - high)]
        sides += [(-step - wide, -step - high)]
        boxes += [Box(x + dx, y + dy, x + dx + wide, y + dy + high) for dx, dy in sides]
    return boxes


@contextmanager
def _any_script() -> Iterator[None]:
    """No warning for a letter that matplotlib's font lacks: the browser's font writes it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        yield


@_any_script()
def latency_plot(
    points: Sequence[Point], *, reference: float | None, narrow: bool, salt: str
) -> str:
    """Quality over median latency, a labelled marker per point, as an SVG element.

    Where there is a choice, steps join the bundles of the Pareto front: the best quality that is to
    be had in so many milliseconds.

    Args:
        points: at least one.
        reference: the teacher's quality, drawn as a line.
        narrow: draw for a small screen.
        salt: makes the element's ids differ from those of other plots on the page.
    """
    figure, axes = _canvas(4.4 if narrow else 8.6, 3.7 if narrow else 4.0)
    times = [point.p50_ms for point in points]
    if max(times) > _LOG_FROM * min(times):
        _log_axis(axes, min(times), max(times))
    else:
        axes.set_xlim(min(times) / 1.3, max(times) * 1.2)
    levels = [point.quality for point in points] + ([] if reference is None else [reference])
    spread = max(max(levels) - min(levels), 0.02 * abs(max(levels)), 1e-3)
    axes.set_ylim(min(levels) - 0.35 * spread, max(levels) + 0.35 * spread)
    axes.set_xlabel("milliseconds per caption, median (left is better)")
    axes.set_ylabel("CIDEr (up is better)")
    axes.grid(True)
    taken = [] if reference is None else _reference(figure, axes, reference)
    front = pareto_front(points)
    if len(front) > 1:
        best = [(point.p50_ms, point.quality) for point in front]
        axes.step(*zip(*best, strict=True), where="post", color=_ACCENT, linewidth=1.4, zorder=2)
    for index, point in enumerate(points):
        axes.plot(
            point.p50_ms,
            point.quality,
            _MARKERS[index % len(_MARKERS)],
            color=_ACCENT if point.bundle else _SECOND,
            markersize=9,
            markeredgecolor=_SURFACE,
            markeredgewidth=1.2,
            zorder=3,
        )
    _write_labels(figure, axes, points, taken)
    return _svg(figure, salt)


def _log_axis(axes: "Axes", low: float, high: float) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.set_xlim(low / 1.6, high * 2.2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


@_any_script()
def size_plot(bars: Sequence[Bar], *, narrow: bool, salt: str) -> str:
    """A bar per stage and bundle with its megabytes and what it reaches, as an SVG element."""
    figure, axes = _canvas(4.4 if narrow else 8.6, 0.75 + 0.36 * len(bars))
    places = range(len(bars))[::-1]
    largest = max(bar.megabytes for bar in bars)
    axes.barh(
        list(places),
        [bar.megabytes for bar in bars],
        height=0.62,
        color=[_ACCENT if bar.bundle else _SECOND for bar in bars],
    )
    for place, bar in zip(places, bars, strict=True):
        text = f"{number(bar.megabytes)} MB" + (f" · {bar.note}" if bar.note else "")
        axes.text(
            bar.megabytes + 0.012 * largest, place, text, va="center", color=_INK, parse_math=False
        )
    axes.set_yticks(list(places), [bar.label for bar in bars], parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.set_xlim(0, largest * (2.1 if narrow else 1.38))  # room for the longest bar's words
    axes.set_xlabel("megabytes on disk")
    axes.grid(True, axis="x")
    return _svg(figure, salt)


def _canvas(wide: float, high: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=_DPI, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_GRID)
    axes.tick_params(colors=_MUTED, labelsize=10)
    axes.xaxis.label.set_color(_MUTED)
    axes.yaxis.label.set_color(_MUTED)
    axes.grid(color=_GRID, linewidth=0.7)
    axes.grid(False)
    return figure, axes


def _reference(figure: "Figure", axes: "Axes", level: float) -> list[Box]:
    """Draw a line at `level`, and return the places of its name and of itself."""
    axes.axhline(level, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    words = axes.annotate(
        f"teacher {level:.1f}",
        xy=(1, level),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=_MUTED,
    )
    figure.draw_without_rendering()
    extent, frame = words.get_window_extent(), axes.get_window_extent()
    height = axes.transData.transform((0, level))[1]
    return [
        Box(extent.x0, extent.y0, extent.x1, extent.y1),
        Box(frame.x0, height - 1, frame.x1, height + 1),
    ]


def _write_labels(
    figure: "Figure", axes: "Axes", points: Sequence[Point], taken: Sequence[Box]
) -> None:
    texts = [f"{point.label}, {number(point.p50_ms)} ms" for point in points]
    figure.draw_without_rendering()  # lays the axes out, so that pixels mean something
    centres = [tuple(axes.transData.transform((point.p50_ms, point.quality))) for point in points]
    sizes = [_text_size(figure, text) for text in texts]
    frame = axes.get_window_extent()
    # The browser's font may be wider than matplotlib's, by which labels were measured.
    inside = Box(frame.x0, frame.y0, frame.x1 - _SLACK, frame.y1)
    boxes = place_labels(centres, sizes, inside, taken=taken)
    for text, centre, box in zip(texts, centres, boxes, strict=True):
        own = box.distance(centre)
        # A line to the marker, where the label stands apart or could be taken for a neighbour's.
        if own > 2 * _CLEAR + _RADIUS or any(
            box.distance(other) <= own + _CLEAR for other in centres if other != centre
        ):
            line = axes.transData.inverted().transform([centre, box.nearest(centre)])
            axes.plot(line[:, 0], line[:, 1], color=_MUTED, linewidth=0.8, zorder=2)
        left, bottom = axes.transAxes.inverted().transform((box.left, box.bottom))
        axes.text(
            left, bottom, text, transform=axes.transAxes, color=_INK, va="bottom", parse_math=False
        )


def _text_size(figure: "Figure", text: str) -> tuple[float, float]:
    words = figure.text(0, 0, text, parse_math=False)
    extent = words.get_window_extent()
    words.remove()
    return extent.width, extent.height


def _svg(figure: "Figure", salt: str) -> str:
    from matplotlib import rc_context

    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    out = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(out, format="svg", metadata=nothing)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    # The page decides how wide a plot is; the view box keeps the proportions.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    # Ids that nothing refers to, such as figure_1, are the same in every plot on the page.
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    return text
