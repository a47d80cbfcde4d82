"""The learning curve: a planted power law is found again; parts are of the right size and are measured on dev alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reviews import reviews

from weft.compare import curve as module
from weft.compare.curve import learning_curve, project
from weft.compare.ladder import Plan, Standing, climb
from weft.compare.runs import carry_out
from weft.data.examples import Example, Splits, Table

OPTIONS = {"device": "cpu", "precision": "fp32", "threads": 1}


def splits(train: int = 64) -> Splits:
    examples = [Example(text, label) for text, label in reviews(train + 32)]
    parts = examples[:train], examples[train : train + 16], examples[train + 16 :]
    return Splits(*(Table(list(part), "classification", "t") for part in parts))


@settings(max_examples=100, deadline=None)
@given(st.floats(0.3, 3.0), st.floats(0.05, 1.5), st.integers(50, 20_000), st.integers(1, 2000))
def test_a_planted_power_law_is_found_again(scale, power, whole, more):
    """Errors of a·n^(−b) exactly: the projection is the law."""
    sizes = [whole // 8, whole // 4, whole // 2, whole]

    def score(size: int) -> float:
        return 1 - min(0.999, scale * size**-power)

    if scale * sizes[0] ** -power > 0.999 or scale * (whole + more) ** -power < 2e-4:
        return  # cut off at either end it is no power law
    found = project(sizes, [[score(size)] * 3 for size in sizes], more)
    assert found["size"] == whole + more
    assert found["mean"] == pytest.approx(score(whole + more), abs=1e-9)
    assert found["interval"] == pytest.approx([found["mean"]] * 2, abs=1e-7)  # the seeds agree, the points lie on the line
    gain = 100 * (score(whole + more) - score(whole))
    assert found["sentence"].startswith(f"{more} more labelled texts would bring about {gain:+.1f} points")


def test_the_fit_is_least_squares_on_logarithms():
    sizes, scores = [120, 250, 400, 1000], [0.61, 0.7, 0.69, 0.8]
    slope, intercept = np.polyfit(np.log(sizes), np.log(1 - np.array(scores)), 1)
    expected = math.exp(intercept + slope * math.log(1000)) - math.exp(intercept + slope * math.log(1500))
    assert project(sizes, [[score] for score in scores], 500)["mean"] == pytest.approx(0.8 + expected)


def test_noise_makes_an_interval_that_holds_the_truth():
    generator = np.random.default_rng(0)
    sizes, inside = [100, 200, 400, 800], 0
    truth = 2 * 1300**-0.4 - 2 * 800**-0.4  # of the error, from 800 to 1,300
    for _ in range(40):
        scores = [[1 - 2 * size**-0.4 + generator.normal(0, 0.004) for _ in range(5)] for size in sizes]
        found = project(sizes, scores, 500)
        low, high = found["interval"]
        assert low <= found["mean"] <= high
        now = float(np.mean(scores[-1]))
        inside += low - now <= -truth <= high - now
    assert inside >= 32  # of 40; 38 are expected


def test_points_that_stray_from_the_line_make_it_wide_even_where_the_seeds_agree():
    straight = project([100, 200, 400, 800], [[1 - 2 * n**-0.4] * 3 for n in (100, 200, 400, 800)], 500)["interval"]
    bent = project([100, 200, 400, 800], [[score] * 3 for score in (0.6, 0.75, 0.74, 0.85)], 500)["interval"]
    assert straight[1] - straight[0] < 1e-6
    assert bent[1] - bent[0] > 0.01


def test_what_is_no_share_has_no_projection():
    assert project([100, 200, 400], [[0.5], [0.6], [1.7]], 500) is None
    assert project([100, 200, 400], [[0.5], [math.nan], [0.7]], 500) is None
    assert project([100, 200], [[0.5], [0.6]], 500) is None
    assert project([100, 200, 400], [[1.0], [1.0], [1.0]], 500)["mean"] == pytest.approx(1.0, abs=1e-3)


def test_other_metrics_are_said_in_their_own_unit():
    assert " of R² " in project([100, 200, 400], [[0.1, 0.2], [0.3, 0.3], [0.4, 0.5]], 500, "r2")["sentence"]
    assert " points " in project([100, 200, 400], [[0.1, 0.2], [0.3, 0.3], [0.4, 0.5]], 500, "micro_f1")["sentence"]


def test_the_curve_is_trained_on_parts_and_measured_on_dev(tmp_path, monkeypatch):
    data = splits()
    plan = Plan(("bag",), (0, 1), steps=40, settings={"bag": {"buckets": 64, "embedding_size": 8}}, options=OPTIONS)
    standing = climb(data, plan, tmp_path)
    seen = []
    real = module.carry_out

    def spy(part, rung, seed, chosen, *, steps, **options):
        seen.append((len(part.train), len(part.dev), part.test, seed, steps, chosen))
        return real(part, rung, seed, chosen, steps=steps, **options)

    monkeypatch.setattr(module, "carry_out", spy)
    found = learning_curve(data, "bag", plan, standing, tmp_path)
    assert found["sizes"] == [8, 16, 32, 64]
    # as many passes over each part as over the whole, but twenty steps at least; never a test set
    assert seen == [(size, 16, None, seed, 20, standing.runs["bag"][0].settings) for size in (8, 16, 32) for seed in (0, 1)]
    assert found["mean"][-1] == pytest.approx(np.mean([run.dev["accuracy"] for run in standing.runs["bag"]]))
    assert len(found["sd"]) == 4 and found["projection"]["size"] == 564
    assert learning_curve(data, "bag", plan, standing, tmp_path) == found
    assert len(seen) == 6  # kept


def test_steps_shrink_with_the_data(tmp_path, monkeypatch):
    data, chosen = splits(), {"filters": 2, "embedding_size": 4}
    plan = Plan(("cnn",), (0,), steps=800, settings={"cnn": chosen}, options=OPTIONS)
    run = replace(carry_out(data, "cnn", 0, chosen, steps=2, **OPTIONS), steps=800)
    standing = Standing(plan, runs={"cnn": [run]})
    steps = []

    def planted(part, *_, **options):
        steps.append(options["steps"])
        return run

    monkeypatch.setattr(module, "carry_out", planted)
    learning_curve(data, "cnn", plan, standing, tmp_path)
    assert steps == [100, 200, 400]


def test_a_baseline_has_no_steps(tmp_path):
    data = splits(48)
    plan = Plan(("svm",), (0,), options=OPTIONS)
    found = learning_curve(data, "svm", plan, climb(data, plan, tmp_path), tmp_path)
    assert found["rung"] == "svm" and found["sizes"] == [6, 12, 24, 48]
    assert found["projection"]["size"] == 548
