"""Random search: what is drawn, what is kept fixed, what is chosen, and that a failed trial loses nothing but itself."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from reviews import reviews

from weft.compare import tuning
from weft.compare.runs import Run
from weft.compare.tuning import best_trial, candidates, space
from weft.data.examples import Example, Splits, Table
from weft.errors import DivergedError, InputError
from weft.estimators.rungs import RUNGS
from weft.estimators.settings import known_settings, typed_settings

EXAMPLES = [Example(text, label) for text, label in reviews(12)]
SPLITS = Splits(*(Table(EXAMPLES[i : i + 4], "classification", "t") for i in (0, 4, 8)))


@pytest.fixture
def planted(monkeypatch):
    """Trials whose accuracy on dev is a function of their settings; the list of what was tried."""
    tried: list[dict] = []

    def plant(score):
        def carry_out(splits, rung, seed, settings, *, steps, **options):
            assert splits.test is None
            tried.append(settings)
            dev = {"accuracy": score(settings, len(tried))}
            return Run(rung, seed, settings, steps, 1.0, 1, 1.0, dev, {"accuracy": 1 - dev["accuracy"]}, [], [], [], 1.0, 1.0, 1, 1)

        monkeypatch.setattr(tuning, "carry_out", carry_out)
        return tried

    return plant


@pytest.mark.parametrize("rung", list(RUNGS))
def test_everything_that_is_drawn_is_a_setting_of_the_rung_and_a_value_it_can_have(rung):
    assert set(space(rung)) <= known_settings(rung)
    for candidate in candidates(rung, {}, 30, seed=1):
        assert typed_settings(rung, candidate) == candidate


def test_the_rungs_own_settings_come_first_and_draws_are_the_seeds():
    drawn = candidates("cnn", {}, 8, seed=3)
    assert drawn[0] == {}
    assert len(drawn) == 8
    assert all(set(one) == set(space("cnn")) for one in drawn[1:])
    assert len({str(one) for one in drawn}) == 8
    assert drawn == candidates("cnn", {}, 8, seed=3)
    assert drawn != candidates("cnn", {}, 8, seed=4)
    assert drawn[:5] == candidates("cnn", {}, 5, seed=3)  # more trials add to those there were
    assert candidates("majority", {}, 8, seed=3) == [{}]  # there is nothing to choose


def test_what_the_caller_fixed_stays_fixed():
    fixed = {"dropout": 0.25, "filters": 7}
    for candidate in candidates("cnn", fixed, 10, seed=0):
        assert {name: candidate[name] for name in fixed} == fixed


def test_rates_are_drawn_evenly_in_logarithms():
    import math

    rates = [one["learning_rate"] for one in candidates("cnn", {}, 2001, seed=0)[1:]]
    assert min(rates) >= 3e-4 and max(rates) <= 6e-3
    below = sum(rate < math.sqrt(3e-4 * 6e-3) for rate in rates)
    assert abs(below - 1000) < 4 * math.sqrt(500)


def test_the_best_on_dev_is_chosen_the_first_of_equals(planted, tmp_path):
    tried = planted(lambda settings, number: settings.get("C", 0.0) / 100)
    best = best_trial(SPLITS, "svm", {}, None, 6, 0, tmp_path, {})
    assert tried == candidates("svm", {}, 6, 0)
    assert best == max(tried, key=lambda settings: settings.get("C", 0.0))
    planted(lambda settings, number: 0.5)
    assert best_trial(SPLITS, "svm", {}, None, 6, 1, tmp_path, {}) == {}  # the rung's own


def test_every_trial_is_told_before_it_begins(planted, tmp_path):
    heard = []
    planted(lambda settings, number: 0.5)
    best_trial(SPLITS, "svm", {}, None, 4, 0, tmp_path, {}, heard.append)
    assert heard == [0, 1, 2, 3]


def test_a_trial_that_diverges_is_said_and_left_out(planted, tmp_path, caplog):
    def score(settings, number):
        if number in (1, 3):
            raise DivergedError("the loss is nan", step=7, batch=2)
        return number / 10

    tried = planted(score)
    with caplog.at_level(logging.WARNING, logger="weft"):
        best = best_trial(SPLITS, "svm", {}, None, 4, 0, tmp_path, {})
    assert best == tried[3 - 1 + 1]  # the fourth; the first and the third fell out
    assert "svm: trial 1 failed and is left out (the loss is nan at step 7, batch 2" in caplog.text
    assert "svm: trial 3 failed" in caplog.text


def test_where_every_trial_fails_the_last_error_is_raised(planted, tmp_path):
    def score(settings, number):
        raise InputError(f"trial {number}")

    planted(score)
    with pytest.raises(InputError, match="trial 3"):
        best_trial(SPLITS, "svm", {}, None, 3, 0, tmp_path, {})


def test_finished_trials_are_used_again_and_only_for_the_same_data(planted, tmp_path):
    tried = planted(lambda settings, number: number / 10)
    first = best_trial(SPLITS, "svm", {}, None, 3, 0, tmp_path, {})
    assert best_trial(SPLITS, "svm", {}, None, 3, 0, tmp_path, {}) == first
    assert len(tried) == 3
    best_trial(SPLITS, "svm", {}, None, 5, 0, tmp_path, {})
    assert len(tried) == 5  # two more
    other = replace(SPLITS, test=replace(SPLITS.test, examples=EXAMPLES[:2]))
    best_trial(other, "svm", {}, None, 5, 0, tmp_path, {})
    assert len(tried) == 5  # the test set is no part of a trial
    other = replace(SPLITS, dev=replace(SPLITS.dev, examples=EXAMPLES[:2]))
    best_trial(other, "svm", {}, None, 5, 0, tmp_path, {})
    assert len(tried) == 10
