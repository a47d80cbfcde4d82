"""Labels do not overlap, ticks are round and inside, the front is what brute force finds, and axes map ends to ends."""

import itertools
import math
import random
import xml.etree.ElementTree as ElementTree

import pytest

from weft.compare.charts import Ahead, Frame, Point, curve, focus, front, log_ticks, nice_ticks, place_labels, scatter, whisker

BASELINES = ["majority", "naive-bayes", "logistic", "svm", "perceptron"]
NAMES = [*BASELINES, "bag", "mlp", "window", "cnn", "dcnn", "rnn", "lstm", "bilstm", "gru", "attention-lstm", "transformer"]
AREA = (48.0, 34.0, 742.0, 374.0)


def overlap(a, b):
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


@pytest.mark.parametrize("spread", [20, 60, 400])
@pytest.mark.parametrize("seed", range(5))
def test_labels_never_overlap(spread, seed):
    generator = random.Random(seed)
    middle = (generator.uniform(100, 700), generator.uniform(80, 330))
    anchors = [
        (
            min(max(middle[0] + generator.uniform(-spread, spread), 55), 735),
            min(max(middle[1] + generator.uniform(-spread, spread), 40), 368),
        )
        for _ in NAMES
    ]
    labels = place_labels(NAMES, anchors, AREA)
    assert [label.name for label in labels] == NAMES
    for label, anchor in zip(labels, anchors, strict=True):
        left, top, right, bottom = label.box
        assert AREA[0] <= left < right <= AREA[2]
        assert AREA[1] <= top < bottom <= AREA[3]
        assert right - left >= 6.5 * len(label.name)
        assert not (left < anchor[0] < right and top < anchor[1] < bottom)
    for first, second in itertools.combinations(labels, 2):
        assert overlap(first.box, second.box) == 0, (first, second)
    for label, anchor in itertools.product(labels, anchors):
        if anchor != label.anchor:
            assert overlap(label.box, (anchor[0] - 6, anchor[1] - 6, anchor[0] + 6, anchor[1] + 6)) == 0


def test_a_label_alone_stands_beside_its_point():
    (label,) = place_labels(["cnn"], [(300.0, 200.0)], AREA)
    assert not label.leader
    assert 300 < label.box[0] < 320
    assert label.box[1] < 200 < label.box[3]


def test_front_is_what_nothing_beats():
    generator = random.Random(0)
    points = [Point(str(i), generator.choice([0.1, 0.2, 0.5, 1, 2, 5]), generator.randrange(60, 80)) for i in range(40)]
    found = front(points)
    beaten = [any(q.x <= p.x and q.y >= p.y and (q.x < p.x or q.y > p.y) for q in points) for p in points]
    expected = {(p.x, p.y) for p, is_beaten in zip(points, beaten, strict=True) if not is_beaten}
    assert {(p.x, p.y) for p in found} == expected
    assert len(found) == len(expected)
    assert [p.x for p in found] == sorted(p.x for p in found)


@pytest.mark.parametrize(("low", "high"), [(0.71, 0.79), (0, 1), (-3.2, 11), (0.4999, 0.5001), (1e-5, 3e-5), (0.5, 0.5), (100, 120_000)])
def test_ticks_are_round_and_inside(low, high):
    ticks = nice_ticks(low, high)
    assert len(ticks) <= 6
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    if high > low:
        assert len(ticks) >= 2
        steps = {f"{b - a:.3e}"[0] for a, b in itertools.pairwise(ticks)}
        assert len(steps) == 1
        assert steps <= {"1", "2", "5"}


def test_log_ticks():
    assert log_ticks(0.015, 5) == pytest.approx([0.03, 0.1, 0.3, 1, 3])
    assert log_ticks(0.3, 2) == pytest.approx([0.5, 1, 2])
    assert log_ticks(1e-3, 1e4, most=8) == pytest.approx([10.0**i for i in range(-3, 5)])


def test_focus_leaves_out_what_would_squeeze_the_others():
    assert focus([0.50, 0.76, 0.77, 0.78]) == (0.76, 0.78)
    assert focus([0.2, 0.5, 0.76, 0.77, 0.78]) == (0.76, 0.78)
    assert focus([0.70, 0.74, 0.77, 0.78]) == (0.70, 0.78)
    assert focus([0.5, 0.78, 0.78]) == (0.5, 0.78)  # three are always kept
    assert focus([0.7]) == (0.7, 0.7)


def test_frame_maps_ends_to_ends():
    frame = Frame(500, 300, (0.1, 10.0), (0.5, 0.9))
    assert (frame.x(0.1), frame.x(10.0)) == pytest.approx((48, 482))
    assert frame.x(1.0) == pytest.approx((48 + 482) / 2)
    assert (frame.y(0.5), frame.y(0.9)) == pytest.approx((254, 14))
    assert frame.y(0.1) == frame.y(0.5)


def parsed(svg):
    """An SVG as XML: it must be well formed as such, too."""
    return ElementTree.fromstring(str(svg))


def test_scatter_draws_every_point_where_it_belongs():
    points = [Point("a", 0.1, 0.70), Point("b", 1.0, 0.75, "best", "b & more"), Point("c", 10.0, 0.72), Point("far", 1.0, 0.2)]
    options = {"x_title": "x", "y_title": "y", "show_x": str, "show_y": str, "label": "all"}
    root = parsed(scatter(points, **options, strip=(0.74, 0.99)))
    circles = {circle.find("title").text: (float(circle.get("cx")), float(circle.get("cy"))) for circle in root.iter("circle")}
    assert set(circles) == {"a", "b & more", "c", "far"}
    assert circles["a"][0] < circles["b & more"][0] == circles["far"][0] < circles["c"][0]
    assert circles["b & more"][1] < circles["c"][1] < circles["a"][1] < circles["far"][1]
    assert math.isclose(circles["b & more"][0] * 2, circles["a"][0] + circles["c"][0], abs_tol=0.2)
    assert {text.text for text in root.iter("text")} >= {"a", "b", "c", "far ↓ 0.2"}
    (strip,) = root.iter("rect")
    assert float(strip.get("y")) == pytest.approx(34)
    assert float(strip.get("y")) + float(strip.get("height")) > circles["b & more"][1]


@pytest.mark.parametrize("count", [1, 2])
def test_scatter_of_equal_points(count):
    points = [Point(f"p{i}", 2.0, 0.5) for i in range(count)]
    root = parsed(scatter(points, x_title="", y_title="", show_x=str, show_y=str, label=""))
    assert len(list(root.iter("circle"))) == count
    assert "nan" not in ElementTree.tostring(root, encoding="unicode")


def test_curve():
    options = {"x_title": "x", "y_title": "y", "show_y": str, "label": "curve"}
    root = parsed(curve([100, 1000], [0.5, 0.7], [0.02, None], projection=Ahead(2000, 0.75, (0.7, 0.8)), **options))
    points = [(float(circle.get("cx")), float(circle.get("cy"))) for circle in root.iter("circle")]
    assert len(points) == 3
    assert points == sorted(points)
    assert points[0][1] > points[1][1] > points[2][1]
    assert {"100", "2,000"} <= {text.text for text in root.iter("text")}
    assert len(list(parsed(curve([100], [0.5], [None], projection=None, **options)).iter("circle"))) == 1


def test_whisker():
    root = parsed(whisker(0.75, (0.7, 0.8), (0.7, 0.8)))
    assert float(root.find("circle").get("cx")) == 66
    drawn = root.findall("line")[1]
    assert (float(drawn.get("x1")), float(drawn.get("x2"))) == (7, 125)
    assert parsed(whisker(0.5, (0.4, 0.6), (0.7, 0.8))).find("circle") is None
    assert parsed(whisker(0.5, None, (0.5, 0.5))).find("circle") is not None
