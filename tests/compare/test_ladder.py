"""The ladder on tiny data: equal budgets, failures and interruptions that cost nothing else, and a test set that nothing chooses by."""

from __future__ import annotations

import io
import json
import logging
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reviews import TINY, reviews, strict
from rich.console import Console

from weft.compare import ladder, study, tuning
from weft.compare.ladder import MINIMUM_STEPS, Plan, climb, said_once, share_out
from weft.compare.results import Results
from weft.compare.runs import Run, fingerprint, keep, kept
from weft.compare.summary import best_rung, summarise
from weft.data.examples import Example, Splits, Table
from weft.errors import InputError
from weft.estimators.rungs import RUNGS
from weft.estimators.settings import known_settings

OPTIONS = {"device": "cpu", "precision": "fp32", "threads": 1}
SMALL = dict(pair.split("=") for pair in TINY if not pair.startswith("epochs"))
NEURAL = tuple(name for name, rung in RUNGS.items() if rung.engine == "neural")
NAMES = {"name": "t", "command": "weft compare t", "started": "now", "split_note": "by hand"}
CLOCKED = ("train_seconds", "texts_per_second", "latency_ms")


def table(rows: list[tuple], task: str = "classification", name: str = "t") -> Table:
    return Table([Example(row[0], row[1], row[2] if len(row) > 2 else None, i + 1) for i, row in enumerate(rows)], task, name)


def make_splits(task: str = "classification", pair: bool = False) -> Splits:
    """48 training, 16 development and 20 test texts."""
    draw, rows = random.Random(1), reviews(84)
    if task == "multi-label":
        rows = [(text, tuple(sorted({label} | ({"film"} if "film" in text else set())))) for text, label in rows]
    if task == "regression":
        rows = [(text, float(label == "pos") + draw.random() / 4) for text, label in rows]
    if pair:
        rows = [(text, label, other) for (text, label), (other, _) in pairwise([*rows, rows[0]])]
    return Splits(table(rows[:48], task), table(rows[48:64], task), table(rows[64:], task))


def plan(*rungs: str, **more) -> Plan:
    known = {name for rung in rungs for name in known_settings(rung)}
    small = {"": {name: value for name, value in SMALL.items() if name in known}}
    return Plan(rungs, **{"seeds": (0, 1), "steps": 3, "settings": small, "options": OPTIONS, **more})


def facts(run: Run) -> dict:
    """All of a run but what the clock says."""
    return {name: value for name, value in vars(run).items() if name not in CLOCKED}


@pytest.fixture
def counted(monkeypatch):
    """The (rung, seed) of each training that really happens, in order; `stop_at` raises KeyboardInterrupt at the n-th."""
    done: list[tuple[str, int]] = []
    real = ladder.carry_out

    class Counter(list):
        stop_at: int | None = None

    seen = Counter(done)

    def count(splits, rung, seed, settings, **options):
        if seen.stop_at is not None and len(seen) >= seen.stop_at:
            raise KeyboardInterrupt
        seen.append((rung, seed))
        return real(splits, rung, seed, settings, **options)

    monkeypatch.setattr(ladder, "carry_out", count)
    monkeypatch.setattr(tuning, "carry_out", count)
    return seen


def run_study(splits: Splits, chosen: Plan, folder: Path, width: int = 500, terminal: bool = False, **more) -> tuple[Results, str]:
    """results, what was printed."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, highlight=False)
    results = study.run_study(splits, chosen, folder, **NAMES, console=console, **more)
    return results, out.getvalue()


# what is equal


def level_by_bisection(available: float, seconds: dict[str, float], limits: dict[str, int]) -> float:
    """The time for each rung such that all together take `available`, those at their limit less."""
    low, high = 0.0, available
    for _ in range(200):
        middle = (low + high) / 2
        spent = sum(min(middle, limits[rung] * seconds[rung]) for rung in seconds)
        low, high = (middle, high) if spent < available else (low, middle)
    return low


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.floats(0.001, 0.2), st.integers(MINIMUM_STEPS, 3000)), min_size=1),
    st.floats(60, 3000),
)
def test_steps_are_shared_out_so_that_all_take_the_same_time(rungs, available):
    seconds, limits = {rung: pair[0] for rung, pair in rungs.items()}, {rung: pair[1] for rung, pair in rungs.items()}
    steps = share_out(available, seconds, limits)
    level = level_by_bisection(available, seconds, limits)
    assert steps.keys() == seconds.keys()
    for rung in seconds:
        assert MINIMUM_STEPS <= steps[rung] <= limits[rung]
        # whole steps: what one rung leaves of its share is less than a step, and the others have it
        assert steps[rung] * seconds[rung] == pytest.approx(min(level, limits[rung] * seconds[rung]), abs=sum(seconds.values()))
    assert sum(steps[rung] * seconds[rung] for rung in seconds) <= available + 1e-6


def test_shares_worked_by_hand():
    # 300 s: a could use only 10 s of its 100 and leaves 90; b takes 145 s at 0.5 s, c 145 s at 0.1 s
    assert share_out(300, {"b": 0.5, "a": 0.1, "c": 0.1}, {"a": 100, "b": 10**6, "c": 10**6}) == {"a": 100, "b": 290, "c": 1450}
    assert share_out(1, {"a": 1.0, "b": 1.0}, {"a": 500, "b": 500}) == {"a": MINIMUM_STEPS, "b": MINIMUM_STEPS}
    assert share_out(10, {}, {}) == {}


def test_with_steps_every_neural_rung_takes_the_same_number_on_the_same_seeds(tmp_path):
    standing = climb(make_splits(), plan(*RUNGS, steps=4), tmp_path)
    assert standing.errors == {}
    assert list(standing.runs) == list(RUNGS)
    for rung, runs in standing.runs.items():
        assert [run.seed for run in runs] == [0, 1]
        assert {run.steps for run in runs} == ({4} if rung in NEURAL else {None})
        assert {len(run.example_scores) for run in runs} == {20}


def test_minutes_become_steps_once_and_are_kept(tmp_path, monkeypatch):
    timed = []

    def planted(splits, rung, settings, chosen):
        timed.append(rung)
        return {"cnn": 0.05, "bag": 0.01}[rung], 1000

    monkeypatch.setattr(ladder, "_timed", planted)
    splits, chosen = make_splits(), plan("majority", "bag", "cnn", steps=None, minutes=0.2)
    standing = climb(splits, chosen, tmp_path)
    assert timed == ["bag", "cnn"]
    written = json.loads((tmp_path / "budget.json").read_text())
    assert written["steps"] == standing.steps
    # 12 s · 85 % among 2 seeds, less what the baselines took: each of two rungs gets half
    each = written["seconds_each"]
    assert 0.5 < each <= 0.2 * 60 * ladder.TRAINING_SHARE / 2 / 2
    assert standing.steps == share_out(2 * each, {"cnn": 0.05, "bag": 0.01}, {"cnn": 1000, "bag": 1000})
    assert [run.steps for run in standing.runs["cnn"]] == [standing.steps["cnn"]] * 2
    assert climb(splits, chosen, tmp_path).steps == standing.steps
    assert timed == ["bag", "cnn"]  # not timed again
    climb(splits, replace(chosen, minutes=0.3), tmp_path)
    assert timed == ["bag", "cnn"] * 2


def test_a_rung_that_could_not_be_timed_is_tried_again_and_the_others_keep_their_steps(tmp_path, monkeypatch):
    broken = ["cnn"]

    def planted(splits, rung, settings, chosen):
        if rung in broken:
            raise RuntimeError("out of memory")
        return 0.02, 1000

    monkeypatch.setattr(ladder, "_timed", planted)
    splits, chosen = make_splits(), plan("majority", "bag", "cnn", steps=None, minutes=0.1)
    first = climb(splits, chosen, tmp_path)
    assert first.errors == {"cnn": "RuntimeError: out of memory"}
    assert set(first.runs) == {"majority", "bag"}
    broken.clear()
    second = climb(splits, chosen, tmp_path)
    assert second.errors == {}
    assert second.steps["bag"] == first.steps["bag"] == second.steps["cnn"]  # the same time for each


def test_what_is_measured_for_the_calibration_is_a_training_step(tmp_path):
    seconds, most = ladder._timed(make_splits(), "bag", {"buckets": 64, "epochs": 7.0}, plan("bag"))
    assert 0 < seconds < 5
    assert most == 7  # 48 texts are one batch an epoch


# settings


def test_a_setting_for_all_is_for_those_that_have_it(tmp_path):
    chosen = plan("svm", "logistic", "bag", "cnn", "transformer", settings={"": {**SMALL, "C": "0.5"}, "cnn": {"filters": "2"}})
    standing = climb(make_splits(), chosen, tmp_path)
    used = {rung: runs[0].settings for rung, runs in standing.runs.items()}
    assert used["svm"] == used["logistic"] == {"C": 0.5}
    assert used["cnn"] == {"embedding_size": 8, "filters": 2, "learning_rate": 0.02, "buckets": 64}
    assert used["bag"] == {"embedding_size": 8, "learning_rate": 0.02, "buckets": 64}
    assert used["transformer"] == {"embedding_size": 8, "learning_rate": 0.02, "buckets": 64, "hidden_size": 8, "heads": 2}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"": {"filtres": "3"}}, "filtres: no such setting for this model (did you mean filters?)"),
        ({"cnn": {"C": "3"}}, "C: no such setting for this model"),
        ({"svm": {"filters": 3}}, "svm has no setting 'filters'"),
        ({"": {"filters": "few"}}, "filters: must be a whole number, like 100, not 'few'"),
        ({"bag": {"buckets": 3}}, "settings: there are settings for bag, which is not among the models compared"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_trained(tmp_path, counted, given, said):
    with pytest.raises(InputError) as caught:
        climb(make_splits(), plan("svm", "cnn", settings=given), tmp_path)
    assert str(caught.value).startswith(said)
    assert counted == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rungs": ()}, "models: name at least one model"),
        ({"rungs": ("bert",)}, "models: there is no 'bert'; there are majority, "),
        ({"seeds": ()}, "seeds: must be at least 1, not 0"),
        ({"seeds": (-1,)}, "seed: must be from 0 to"),
        ({"trials": 0}, "trials: must be at least 1, not 0"),
        ({"steps": 0}, "steps: must be at least 1, not 0"),
        ({"minutes": 0}, "minutes: must be a number above 0, not 0"),
        ({"minutes": float("nan")}, "minutes: must be a number above 0, not nan"),
        ({"minutes": float("inf")}, "minutes: must be a number above 0, not inf"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(given, said):
    with pytest.raises(InputError) as caught:
        Plan(**{"rungs": ("svm",), **given})
    assert str(caught.value).startswith(said)


def test_a_plan_puts_its_rungs_in_the_ladders_order_once_each():
    assert Plan(("cnn", "majority", "svm", "cnn")).rungs == ("majority", "svm", "cnn")


# failures


def test_a_rung_that_breaks_is_its_row_and_the_others_go_on(tmp_path, monkeypatch):
    real = ladder.carry_out

    def breaks(splits, rung, seed, settings, **options):
        if rung == "bag" or (rung == "cnn" and seed == 1):
            raise RuntimeError("the roof\nfell in")
        if rung == "svm":
            raise InputError("has no roof", "svm")
        return real(splits, rung, seed, settings, **options)

    monkeypatch.setattr(ladder, "carry_out", breaks)
    results, printed = run_study(make_splits(), plan("majority", "svm", "logistic", "bag", "mlp", "cnn"), tmp_path)
    rows = {row["name"]: row for row in results["rungs"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "majority": "done", "svm": "failed", "logistic": "done", "bag": "failed", "mlp": "done", "cnn": "failed",
    }  # fmt: skip
    assert rows["bag"]["error"] == rows["cnn"]["error"] == "RuntimeError: the roof fell in"
    assert rows["svm"]["error"] == "svm: has no roof"
    assert "dev" not in rows["cnn"]  # one seed of two is no result
    assert results["best"]["name"] in ("logistic", "mlp")
    assert "bag: RuntimeError: the roof fell in" in printed
    assert (tmp_path / "report.html").stat().st_size > 1000
    assert strict((tmp_path / "results.json").read_text())["best"]["name"] == results["best"]["name"]


def test_where_every_rung_breaks_the_run_is_an_error_that_says_why(tmp_path, monkeypatch):
    def breaks(*_, **__):
        raise RuntimeError("no roof")

    monkeypatch.setattr(ladder, "carry_out", breaks)
    with pytest.raises(InputError, match="cnn: RuntimeError: no roof"):
        run_study(make_splits(), plan("cnn"), tmp_path)
    assert strict((tmp_path / "results.json").read_text())["best"] is None


def test_a_rung_that_does_not_suit_the_task_says_so(tmp_path):
    standing = climb(make_splits("regression"), plan("majority", "svm"), tmp_path)
    assert standing.errors == {"svm": "does not do regression"}
    standing = climb(make_splits(pair=True), plan("majority", "naive-bayes"), tmp_path)
    assert standing.errors == {"naive-bayes": "does not do classification of pairs"}


# interruptions


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_an_interrupted_ladder_keeps_what_is_finished_and_the_next_does_only_the_rest(tmp_path, counted, after):
    splits, chosen = make_splits(), plan("majority", "perceptron", "bag", "cnn")
    whole = climb(splits, chosen, tmp_path / "whole")
    every = list(counted)
    assert every == [("majority", 0), ("perceptron", 0), ("perceptron", 1), ("bag", 0), ("bag", 1), ("cnn", 0), ("cnn", 1)]
    counted.clear()
    counted.stop_at = after
    with pytest.raises(KeyboardInterrupt):
        run_study(splits, chosen, tmp_path / "part")
    if after:
        results = strict((tmp_path / "part" / "results.json").read_text())
        done = {row["name"]: len(row["dev"]["values"]) for row in results["rungs"] if row.get("dev")}
        # what is not random is trained once and counts for every seed
        expected = {1: {"majority": 2}, 3: {"majority": 2, "perceptron": 2}, 5: {"majority": 2, "perceptron": 2, "bag": 2}}
        assert done == expected[after]
        assert {row["status"] for row in results["rungs"]} == {"done", "pending"}
        assert (tmp_path / "part" / "report.html").exists()
    else:
        assert not (tmp_path / "part" / "results.json").exists()
    counted.clear()
    counted.stop_at = None
    standing = climb(splits, chosen, tmp_path / "part")
    assert counted == every[after:]
    assert {rung: [facts(run) for run in runs] for rung, runs in standing.runs.items()} == {
        rung: [facts(run) for run in runs] for rung, runs in whole.runs.items()
    }
    counted.clear()
    again = climb(splits, chosen, tmp_path / "part")
    assert counted == []
    assert again.runs == standing.runs


def test_an_interrupted_ladder_shows_what_it_has(tmp_path, counted, capsys):
    counted.stop_at = 2
    out = io.StringIO()
    console = Console(file=out, width=200, highlight=False)
    with pytest.raises(KeyboardInterrupt):
        study.run_study(make_splits(), plan("perceptron", "bag"), tmp_path, **NAMES, console=console)
    assert "interrupted; what is finished is in" in out.getvalue()
    assert "not run" in out.getvalue()


def test_tuning_goes_on_from_where_it_was_interrupted(tmp_path, counted):
    splits, chosen = make_splits(), plan("svm", "cnn", trials=3)
    whole = climb(splits, chosen, tmp_path / "whole")
    assert len(counted) == 2 * (3 + 2)
    counted.clear()
    counted.stop_at = 7
    with pytest.raises(KeyboardInterrupt):
        climb(splits, chosen, tmp_path / "part")
    counted.clear()
    counted.stop_at = None
    standing = climb(splits, chosen, tmp_path / "part")
    assert len(counted) == 3
    assert standing.tuned == whole.tuned
    assert [facts(run) for run in standing.runs["cnn"]] == [facts(run) for run in whole.runs["cnn"]]


def test_a_finished_run_is_used_again_only_for_exactly_the_same(tmp_path):
    splits = make_splits()

    def key(splits=splits, rung="cnn", seed=0, settings=None, steps=3, options=OPTIONS):
        return fingerprint(splits, rung, seed, settings or {}, steps, options)

    def changed(part: str, **change) -> Splits:
        given = getattr(splits, part)
        return replace(splits, **{part: replace(given, examples=[replace(given.examples[0], **change), *given.examples[1:]])})

    others = [
        key(changed("train", text="other")), key(changed("dev", label="neg2")), key(changed("test", text="other")),
        key(changed("test", pair="x")), key(replace(splits, test=None)), key(rung="bag"), key(seed=1), key(settings={"filters": 3}),
        key(steps=4), key(options={**OPTIONS, "precision": "bf16"}),
    ]  # fmt: skip
    assert len({key(), *others}) == len(others) + 1
    assert key() == key(make_splits())
    run = ladder.carry_out(splits, "majority", 0, {}, steps=None, **OPTIONS)
    path = tmp_path / "run.json"
    keep(replace(run, fingerprint="a"), path)
    assert kept(path, "a") == replace(run, fingerprint="a")
    assert kept(path, "b") is None
    assert kept(tmp_path / "none.json", "a") is None
    for broken in ("", "{}", "[]", "3", '{"rung": "majority"'):
        path.write_text(broken)
        assert kept(path, "a") is None


# the test set


def test_what_the_test_set_says_chooses_nothing(tmp_path):
    """With the labels of the test set shuffled, everything but the test figures is the same, to the bit."""
    splits, chosen = make_splits(), plan("majority", "svm", "bag", "cnn", trials=3)
    labels = splits.test.labels
    random.Random(5).shuffle(labels)
    relabelled = [replace(example, label=label) for example, label in zip(splits.test.examples, labels, strict=True)]
    shuffled = replace(splits, test=replace(splits.test, examples=relabelled))
    first, second = climb(splits, chosen, tmp_path / "a"), climb(shuffled, chosen, tmp_path / "b")
    assert first.tuned == second.tuned
    assert best_rung(first, "accuracy") == best_rung(second, "accuracy")
    hidden = ("reported", "example_scores", "fingerprint", *CLOCKED)
    for rung in chosen.rungs:
        for a, b in zip(first.runs[rung], second.runs[rung], strict=True):
            assert {k: v for k, v in vars(a).items() if k not in hidden} == {k: v for k, v in vars(b).items() if k not in hidden}
    assert [run.reported for run in first.runs["svm"]] != [run.reported for run in second.runs["svm"]]


def test_selection_is_handed_no_test_set(tmp_path, monkeypatch):
    handed = []
    real = tuning.carry_out
    monkeypatch.setattr(tuning, "carry_out", lambda splits, *rest, **options: handed.append(splits) or real(splits, *rest, **options))
    climb(make_splits(), plan("svm", trials=3), tmp_path)
    assert len(handed) == 3
    assert all(splits.test is None for splits in handed)


def run_by_hand(rung: str, seed: int, dev: float, test: list[float], **more) -> Run:
    given = {
        "settings": {}, "steps": 1, "epochs": 1.0, "best_step": 1, "train_seconds": 1.0, "dev": {"accuracy": dev},
        "reported": {"accuracy": float(np.mean(test))}, "example_scores": test, "predictions": ["pos"] * len(test),
        "confidences": [0.9] * len(test), "texts_per_second": 1.0, "latency_ms": 1.0, "parameters": 1, "bytes": 1, **more,
    }  # fmt: skip
    return Run(rung, seed, **given)


def test_the_best_is_the_best_on_dev_whatever_it_does_on_test():
    splits = make_splits()
    standing = ladder.Standing(plan("svm", "cnn"))
    standing.runs = {
        "svm": [run_by_hand("svm", seed, 0.8, [1.0] * 20) for seed in (0, 1)],
        "cnn": [run_by_hand("cnn", seed, 0.9, [1.0, 0.0] * 10) for seed in (0, 1)],
    }
    results = summarise(splits, standing, name="t", command="", started="", split_note="", checks=[], device="cpu")
    assert results["best"]["name"] == "cnn"
    svm, cnn = results["rungs"]
    assert cnn["test"] == {"mean": 0.5, "sd": 0.0, "values": [0.5, 0.5], "interval": pytest.approx([0.3, 0.7], abs=0.06)}
    assert cnn.get("p_holm") is None
    assert svm["p_value"] == svm["p_holm"] == pytest.approx(2 / 2**10)  # ten coins fall alike
    assert results["best"]["mistakes"][0]["label"] == "pos" or results["best"]["mistakes"][0]["predicted"] == "pos"
    assert len(results["best"]["mistakes"]) == 10


def test_the_simpler_of_equals_is_the_best():
    standing = ladder.Standing(plan("svm", "cnn"))
    standing.runs = {rung: [run_by_hand(rung, 0, 0.9, [1.0] * 20)] for rung in ("svm", "cnn")}
    assert best_rung(standing, "accuracy") == "svm"
    assert best_rung(ladder.Standing(plan("svm")), "accuracy") is None


# tasks


@pytest.mark.parametrize(
    ("task", "pair", "metric"),
    [("multi-label", False, "micro_f1"), ("regression", False, "r2"), ("classification", True, "accuracy"), ("regression", True, "r2")],
)
def test_every_task_climbs(tmp_path, task, pair, metric):
    splits = make_splits(task, pair)
    rungs = tuple(rung for rung in RUNGS if ladder.suits(rung, splits.train))
    assert set(NEURAL) - {"generative-lstm"} <= set(rungs)  # which is for one class a text
    results, _ = run_study(splits, plan(*rungs, steps=2), tmp_path)
    assert results["metric"] == metric
    assert [row["status"] for row in results["rungs"]] == ["done"] * len(rungs), [row["error"] for row in results["rungs"]]
    assert all(np.isfinite(row["test"]["mean"]) for row in results["rungs"])
    others = [row for row in results["rungs"] if row["name"] != results["best"]["name"]]
    assert all(0 <= row["p_value"] <= row["p_holm"] <= 1 for row in others)
    assert strict((tmp_path / "results.json").read_text())["dataset"]["task"] == task


def test_without_a_test_set_development_figures_are_reported_and_said(tmp_path):
    splits = replace(make_splits(), test=None)
    results, printed = run_study(splits, plan("majority", "svm"), tmp_path)
    assert results["dataset"]["test"] is None
    assert results["best"]["split"] == "dev"
    assert all(row["test"] is None for row in results["rungs"])
    assert "no test set" in printed and "test accuracy" not in printed


# what is said


def test_what_every_rung_would_say_of_the_same_data_is_said_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="weft")
    splits = make_splits()
    long = " ".join(f"w{i}" for i in range(500))
    splits = replace(splits, train=replace(splits.train, examples=[*splits.train.examples, Example(long, "pos", None, 49)]))
    splits = replace(splits, test=replace(splits.test, examples=[*splits.test.examples, Example("what", "new", None, 21)]))
    climb(splits, plan("majority", "svm", "cnn", "mlp"), tmp_path)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(set(messages))
    assert "1 of 49 texts are longer than maximum_length=400 tokens and were cut there" in messages
    assert "1 of 21 texts have a label that training never saw (new): they count as wrong" in messages
    log = logging.getLogger("weft")
    with said_once():
        log.info("once")
        log.info("once")
    log.info("once")
    assert [record.getMessage() for record in caplog.records][-2:] == ["once", "once"]
    assert not log.filters


def test_off_a_terminal_each_rung_is_one_line_when_it_is_done(tmp_path):
    _, printed = run_study(make_splits(), plan("svm", "majority", "cnn"), tmp_path)
    lines = [line.split()[0] for line in printed.splitlines() if " s to train" in line]
    assert lines == ["majority", "svm", "cnn"]
    assert "\x1b" not in printed


def test_on_a_terminal_the_table_is_redrawn(tmp_path):
    results, printed = run_study(make_splits(), plan("majority", "svm"), tmp_path, width=100, terminal=True)
    assert "\x1b[" in printed
    assert results["best"]["name"] == "svm"
    assert "trainings" in printed
