"""Pictures as inline SVG: a scatter with labels that do not overlap, a learning curve, a dot with its interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from weft.markup import Html, element, join

LETTER = 7.3  # pixels that a character of a 12.5 pixel label takes, on the wide side
LINE = 15.0
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Point:
    """One rung in the scatter: `x` above 0 on a logarithmic axis, `y`, how it is drawn and what it says when pointed at."""

    name: str
    x: float
    y: float
    style: str = ""  # a CSS class
    title: str = ""


@dataclass(frozen=True)
class Ahead:
    """A learning curve's projection: the metric expected with `size` examples, and an interval where there is one."""

    size: int
    mean: float
    interval: Sequence[float] | None = None


@dataclass(frozen=True)
class Label:
    """Where a label's text stands (its box), and the point it belongs to."""

    name: str
    box: Box
    anchor: tuple[float, float]
    leader: bool  # so far away that a line leads to it


def focus(values: Sequence[float]) -> tuple[float, float]:
    """The range worth showing: without values so far below the others that they would squeeze these together (the majority rung does).

    The lowest values are left out below a gap of over 1.2 times the range above it, where at least three values and 60 % of them remain.
    """
    rest = sorted(values)
    most = min(len(rest) - 3, int(0.4 * len(rest)))
    cuts = [i for i in range(1, most + 1) if rest[i] - rest[i - 1] > 1.2 * (rest[-1] - rest[i])]
    return rest[max(cuts, default=0)], rest[-1]


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers from the range; steps of 1, 2 or 5 times a power of ten."""
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= most - 1)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """1, 2, 5 (or, where these are too many, powers of ten) within the range."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(ticks) <= most:
            break
    return ticks


def front(points: Sequence[Point]) -> list[Point]:
    """The Pareto front, by x: points than which none is both further left (or level) and higher."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not kept or point.y > kept[-1].y:
            kept.append(point)
    return kept


def place_labels(names: Sequence[str], anchors: Sequence[tuple[float, float]], area: Box, avoid: Sequence[Box] = ()) -> list[Label]:
    """A place for each label near its point, inside `area`; where there is room, over no point, no label and nothing to `avoid`.

    Greedy: the most crowded points choose first, among places around the point: the nearest with the least overlap.
    """
    crowding = [sum(math.dist(a, b) < 60 for b in anchors) for a in anchors]
    placed: dict[int, Label] = {}
    dots = [(x - 7, y - 7, x + 7, y + 7) for x, y in anchors]
    for i in sorted(range(len(names)), key=lambda i: -crowding[i]):
        width = LETTER * len(names[i]) + 4
        options = [_candidate(names[i], anchors[i], width, distance, angle) for distance, angle in _places()]
        taken = [label.box for label in placed.values()] + dots[:i] + dots[i + 1 :] + list(avoid)

        def cost(option: Label, taken: list[Box] = taken) -> float:
            outside = _area(option.box) - _overlap(option.box, area)
            return round(10 * outside + sum(_overlap(option.box, box) for box in taken), 3)

        placed[i] = min(options, key=cost)
    return [placed[i] for i in range(len(names))]


def _places() -> list[tuple[float, float]]:
    """(distance, angle) around a point, right and left before above and below."""
    near = [(8.0, angle) for angle in (0, 180, 45, 315, 135, 225, 90, 270)]
    return near + [(float(distance), float(angle)) for distance in range(16, 190, 10) for angle in range(0, 360, 20)]


def _candidate(name: str, anchor: tuple[float, float], width: float, distance: float, angle: float) -> Label:
    """A label whose box begins at this distance from the point, in this direction: beside it, over it, or corner to point."""
    dx, dy = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
    beside, over = (max(-1.0, min(1.0, 1.5 * part)) / 2 for part in (dx, dy))
    x, y = anchor[0] + distance * dx + beside * width, anchor[1] + distance * dy + over * LINE
    return Label(name, (x - width / 2, y - LINE / 2, x + width / 2, y + LINE / 2), anchor, distance > 24)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _nearest(box: Box, anchor: tuple[float, float]) -> tuple[float, float]:
    return min(max(anchor[0], box[0]), box[2]), min(max(anchor[1], box[1]), box[3])


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return element("line", x1=_number(x1), y1=_number(y1), x2=_number(x2), y2=_number(y2), class_=class_)


def _text(x: float, y: float, words: str, class_: str) -> Html:
    return element("text", words, x=_number(x), y=_number(y), class_=class_)


@dataclass(frozen=True)
class Frame:
    """The plot's area in the picture and the mapping into it; `x` may be logarithmic."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    left: float = 48
    right: float = 18
    top: float = 14
    bottom: float = 46

    @property
    def area(self) -> Box:
        return self.left, self.top, self.width - self.right, self.height - self.bottom

    def x(self, value: float) -> float:
        low, high = math.log(self.x_range[0]), math.log(self.x_range[1])
        return self.left + (math.log(value) - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self.y_range
        share = (min(max(value, low), high) - low) / (high - low)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def axes(
        self, x_title: str, y_title: str, x_ticks: Sequence[float], show_x: Callable[[float], str], show_y: Callable[[float], str]
    ) -> Html:
        """Grid lines, tick labels, and a title for each axis."""
        left, _, right, bottom = self.area
        parts: list[Html] = []
        for tick in nice_ticks(*self.y_range):
            parts += [_line(left, self.y(tick), right, self.y(tick), "grid"), _text(left - 8, self.y(tick) + 4, show_y(tick), "tick end")]
        for tick in x_ticks:
            x = self.x(tick)
            parts += [_line(x, bottom, x, bottom + 5, "axis"), _text(x, bottom + 19, show_x(tick), "tick middle")]
        parts += [_line(left, bottom, right, bottom, "axis"), _text((left + right) / 2, self.height - 6, x_title, "tick middle")]
        parts.append(_text(left, self.top - 20, y_title, "tick"))
        return join(*parts)

    def strip(self, bounds: Sequence[float]) -> Html:
        """A range of y, shaded from side to side."""
        left, _, right, _ = self.area
        top, bottom = self.y(bounds[1]), self.y(bounds[0])
        return element("rect", x=left, y=_number(top), width=_number(right - left), height=_number(bottom - top), class_="strip")

    def svg(self, *children: object, label: str, class_: str) -> Html:
        return element("svg", *children, viewBox=f"0 0 {self.width} {self.height}", role="img", aria_label=label, class_=f"chart {class_}")


def scatter(
    points: Sequence[Point],
    *,
    x_title: str,
    y_title: str,
    show_x: Callable[[float], str],
    show_y: Callable[[float], str],
    label: str,
    strip: Sequence[float] | None = None,
    width: int = 760,
    height: int = 420,
    class_: str = "",
) -> Html:
    """Points on a logarithmic x axis with their names and Pareto front. Points far below the others stand at the lower edge.

    strip: a range of y to be shaded across the picture, as far as it reaches into it.
    """
    low, high = focus([point.y for point in points])
    inside = [point for point in points if point.y >= low]
    below = len(inside) < len(points)
    pad = 0.07 * (high - low) or 0.05 * abs(high) or 0.05
    x_range = min(point.x for point in points) / 1.5, max(point.x for point in points) * 1.5
    frame = Frame(width, height, x_range, (low - pad * (2.5 if below else 1), high + pad), top=34)
    anchors = [(frame.x(point.x), frame.y(point.y) if point in inside else frame.area[3] - 10) for point in points]
    names = [point.name if point in inside else f"{point.name} ↓ {show_y(point.y)}" for point in points]
    steps = _front_steps(front(inside), frame)
    placed = place_labels(names, anchors, frame.area, [_thick(*step) for step in itertools.pairwise(steps)])
    labels = [_drawn_label(given, point) for given, point in zip(placed, points, strict=True)]
    dots = [_dot(x, y, point.style, point.title or point.name) for point, (x, y) in zip(points, anchors, strict=True)]
    axes = frame.axes(x_title, y_title, log_ticks(*x_range, most=max(4, width // 90)), show_x, show_y)
    shaded = frame.strip(strip) if strip else None
    return frame.svg(shaded, axes, _front_path(steps), *dots, *labels, label=label, class_=class_)


def _drawn_label(label: Label, point: Point) -> Html:
    left, top, right, _ = label.box
    text = _text((left + right) / 2, top + 11.5, label.name, f"name middle {point.style}")
    if not label.leader:
        return text
    return join(_line(*label.anchor, *_nearest(label.box, label.anchor), "leader"), text)


def _front_steps(points: Sequence[Point], frame: Frame) -> list[tuple[float, float]]:
    """The corners of the steps from each point of the front to the next: what is above and left of them, nothing reaches."""
    corners: list[tuple[float, float]] = []
    for point in points:
        x, y = frame.x(point.x), frame.y(point.y)
        corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
    return corners


def _front_path(corners: Sequence[tuple[float, float]]) -> Html | None:
    return element("polyline", points=_path(corners), class_="front") if len(corners) > 1 else None


def _thick(start: tuple[float, float], end: tuple[float, float]) -> Box:
    """A horizontal or vertical line as a thin box."""
    (left, right), (top, bottom) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    return left - 1, top - 1, right + 1, bottom + 1


def curve(
    sizes: Sequence[int],
    means: Sequence[float],
    deviations: Sequence[float | None],
    *,
    projection: Ahead | None,
    x_title: str,
    y_title: str,
    show_y: Callable[[float], str],
    label: str,
    width: int = 760,
    height: int = 320,
    class_: str = "",
) -> Html:
    """A learning curve: the mean against the number of examples (logarithmic), a band of one standard deviation, the projection dashed."""
    lows = [mean - (sd or 0.0) for mean, sd in zip(means, deviations, strict=True)]
    highs = [mean + (sd or 0.0) for mean, sd in zip(means, deviations, strict=True)]
    all_sizes = [*sizes, projection.size] if projection else list(sizes)
    reach = [projection.mean, *(projection.interval or ())] if projection else []
    low, high = min([*lows, *reach]), max([*highs, *reach])
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 0.05
    frame = Frame(width, height, (min(all_sizes) / 1.15, max(all_sizes) * 1.15), (low - pad, high + pad), top=34)
    line = [(frame.x(size), frame.y(mean)) for size, mean in zip(sizes, means, strict=True)]
    band = [(frame.x(size), frame.y(value)) for size, value in zip([*sizes, *reversed(sizes)], [*highs, *reversed(lows)], strict=True)]
    parts = [element("polygon", points=_path(band), class_="band"), element("polyline", points=_path(line), class_="curve")]
    parts += [_dot(x, y, "best", f"{size:,}: {show_y(mean)}") for (x, y), size, mean in zip(line, sizes, means, strict=True)]
    if projection:
        parts.append(_projected(line[-1], projection, frame, show_y))
    axes = frame.axes(x_title, y_title, _apart(all_sizes, frame), lambda size: f"{size:,.0f}", show_y)
    return frame.svg(axes, *parts, label=label, class_=class_)


def _dot(x: float, y: float, style: str, hint: str) -> Html:
    return element("circle", element("title", hint), cx=_number(x), cy=_number(y), r=5, class_=f"dot {style}")


def _projected(last: tuple[float, float], projection: Ahead, frame: Frame, show_y: Callable[[float], str]) -> Html:
    """A dashed line from the curve's last point to the projected one, with its interval."""
    x, y = frame.x(projection.size), frame.y(projection.mean)
    bounds = projection.interval
    whisker = _line(x, frame.y(bounds[0]), x, frame.y(bounds[1]), "whisker best") if bounds else None
    return join(_line(*last, x, y, "projection"), whisker, _dot(x, y, "open", f"{projection.size:,}: {show_y(projection.mean)}, projected"))


def _apart(sizes: Sequence[int], frame: Frame) -> list[int]:
    """The sizes whose tick labels have room, from the largest down."""
    kept: list[int] = []
    for n in sorted(sizes, reverse=True):
        if not kept or frame.x(kept[-1]) - frame.x(n) > 7 * len(f"{n:,}") + 12:
            kept.append(n)
    return kept


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def whisker(mean: float, bounds: Sequence[float] | None, domain: tuple[float, float], style: str = "", title: str = "") -> Html:
    """A dot and its interval on a line that all rows of a table share; an arrow at the left edge for what lies below `domain`."""
    width, height, pad = 132, 16, 7

    def at(value: float) -> float:
        share = (min(max(value, domain[0]), domain[1]) - domain[0]) / ((domain[1] - domain[0]) or 1)
        return pad + share * (width - 2 * pad)

    parts: list[Html] = [element("title", title), _line(pad, height / 2, width - pad, height / 2, "grid")]
    if mean < domain[0]:
        parts.append(element("path", d=f"M{pad + 5} 3.5L{pad - 2} 8L{pad + 5} 12.5Z", class_=f"arrow {style}"))
    else:
        if bounds:
            parts.append(_line(at(bounds[0]), height / 2, at(bounds[1]), height / 2, f"whisker {style}"))
        parts.append(element("circle", cx=_number(at(mean)), cy=height / 2, r=4, class_=f"dot {style}"))
    return element("svg", *parts, viewBox=f"0 0 {width} {height}", width=width, height=height, role="img", class_="inline")
