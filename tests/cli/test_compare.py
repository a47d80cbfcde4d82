"""weft compare from a file to a table, results.json and report.html."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from reviews import CNN, TINY, reviews, strict, write_csv

from weft.cli.compare import _settings
from weft.errors import InputError
from weft.estimators.rungs import RUNGS, TRANSLATION_RUNGS

QUICK = ["--steps", "2", "--seeds", "1", "--precision", "fp32"]


@pytest.fixture
def weft_(weft_, tmp_path, monkeypatch):
    """The command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return weft_


@pytest.fixture
def data(tmp_path):
    return write_csv(tmp_path / "reviews.csv", reviews(80))


def test_the_whole_ladder_from_a_file(weft_, data, tmp_path):
    done = weft_("compare", data, *QUICK, "--json", "--set", *TINY)
    assert done.code == 0, done.err
    said = strict(done.out)
    folder = tmp_path / "weft-compare-reviews"
    saved = strict((folder / "results.json").read_text())
    assert {name: said[name] for name in saved} == saved
    assert [row["name"] for row in said["rungs"]] == list(RUNGS)
    assert {row["status"] for row in said["rungs"]} == {"done"}
    assert said["split"] == "test"
    best = next(row for row in said["rungs"] if row["name"] == said["best"]["name"])
    assert said["metrics"]["accuracy"] == best["test"]["mean"]
    assert set(best["test_metrics"]) < set(said["metrics"])
    assert said["budget"]["minutes"] is None and said["budget"]["seeds"] == [0]
    assert "dev (10%) and test (10%) split off reviews.csv at random, by label, seed 0: train 64, dev 8" in said["dataset"]["split"]
    assert (folder / "report.html").read_text().startswith("<!doctype html>") or "<html" in (folder / "report.html").read_text()[:200]
    table = done.err[done.err.index("model  ") :].splitlines()
    assert [line.split()[0] for line in table[1 : len(RUNGS) + 1]] == list(RUNGS)
    assert "best on dev" in done.err and "is best on development data; on test its accuracy is" in done.err
    assert f"results: weft-compare-reviews{os.sep}results.json" in done.err
    assert "\x1b" not in done.err and "…" not in done.err


def test_for_people_stdout_is_empty(weft_, data):
    done = weft_("compare", data, *QUICK, "--models", "majority,svm")
    assert (done.code, done.out) == (0, "")


def test_again_is_done_at_once_and_says_the_same(weft_, data, monkeypatch):
    from weft.compare import ladder

    command = ["compare", data, *QUICK, "--models", "svm, cnn,majority", "--out", "c", "--json", "--set", *CNN]
    first = strict(weft_(*command).out)
    assert [row["name"] for row in first["rungs"]] == ["majority", "svm", "cnn"]  # in the ladder's order
    monkeypatch.setattr(ladder, "carry_out", None)  # nothing is trained any more
    second = strict(weft_(*command).out)
    assert {**first, "started": ""} == {**second, "started": ""}


def test_seeds_go_on_from_the_seed(weft_, data):
    said = strict(weft_("compare", data, "--models", "perceptron", "--seeds", "2", "--seed", "5", "--json").out)
    assert said["budget"]["seeds"] == [5, 6]
    assert len(said["rungs"][0]["test"]["values"]) == 2
    assert said["rungs"][0]["test"]["sd"] is not None


def test_files_of_ones_own_are_the_splits(weft_, data, tmp_path):
    valid, test = write_csv(tmp_path / "v.csv", reviews(12, seed=2)), write_csv(tmp_path / "t.csv", reviews(14, seed=3))
    said = strict(weft_("compare", data, "--valid", valid, "--test", test, "--models", "majority,svm", "--json").out)
    assert [said["dataset"][part] for part in ("train", "dev", "test")] == [80, 12, 14]
    assert said["dataset"]["split"] == "files given: train 80, dev 12, test 14"


def test_minutes_are_a_budget_of_time(weft_, data):
    budget = ["--minutes", "0.05", "--seeds", "1", "--models", "majority,cnn"]
    done = weft_("compare", data, *budget, "--json", "--set", *CNN[:-1], "epochs=90")
    said = strict(done.out)
    assert said["budget"]["minutes"] == 0.05
    written = strict((data.parent / "weft-compare-reviews" / "budget.json").read_text())
    steps = said["rungs"][1]["steps"]
    assert steps == written["steps"]["cnn"]
    assert 20 <= steps <= written["most_steps"]["cnn"] == 180  # two batches an epoch
    assert "0.05 minutes for the whole ladder, shared out equally" in said["budget"]["note"]


def test_the_curve_is_said_and_saved(weft_, data):
    done = weft_("compare", data, "--models", "svm", "--seeds", "2", "--curve", "--json")
    curve = strict(done.out)["curve"]
    assert curve["sizes"] == [8, 16, 32, 64]
    assert "learning curve of svm, dev accuracy by the number of training texts: 8: " in done.err
    assert "500 more labelled texts would bring about" in done.err
    few = write_csv(data.parent / "few.csv", reviews(20))
    done = weft_("compare", few, "--models", "svm", "--seeds", "1", "--curve", "--json", "--valid", data, "--test", data)
    assert done.code == 0 and strict(done.out)["best"]["name"] == "svm"  # whatever became of the curve


def test_trials_choose_settings_that_are_in_the_results(weft_, data):
    done = weft_("compare", data, "--models", "majority,svm", "--trials", "3", "--seeds", "1", "--json")
    rows = {row["name"]: row for row in strict(done.out)["rungs"]}
    assert rows["majority"]["settings"] == {}
    assert set(rows["svm"]["settings"]) in (set(), {"C", "ngrams"})


@pytest.mark.parametrize("kind", ["multi-label", "regression", "pairs"])
def test_models_that_do_not_suit_the_task_are_left_out_unless_asked_for(weft_, tmp_path, kind):
    rows, header, draw = reviews(60), ["text", "label"], random.Random(0)
    if kind == "multi-label":
        rows = [(text, f"{label}|film" if "film" in text else label) for text, label in rows]
    elif kind == "regression":
        rows = [(text, (label == "pos") + draw.random()) for text, label in rows]
    else:
        rows, header = [(a, b, label) for (a, label), (b, _) in pairwise(rows)], ["sentence1", "sentence2", "label"]
    data = write_csv(tmp_path / "a.csv", rows, header)
    done = weft_("compare", data, *QUICK, "--json", "--set", *TINY)
    said = strict(done.out)
    assert {row["status"] for row in said["rungs"]} == {"done"}
    left_out = {"generative-lstm"} | (set() if kind == "multi-label" else {"naive-bayes", "logistic", "svm", "perceptron", "fasttext"})
    assert set(RUNGS) - {row["name"] for row in said["rungs"]} == left_out
    if kind == "regression":
        done = weft_("compare", data, "--models", "majority,svm", "--out", "c")
        assert done.code == 0
        assert "svm: does not do regression" in done.err


@pytest.fixture
def pairs(tmp_path):
    """A file of sources and targets, word for word."""
    draw, words = random.Random(0), {"the": "die", "cat": "Katze", "sees": "sieht", "a": "eine", "red": "rote", "bird": "Vogel"}
    sources = [draw.choices(list(words), k=draw.randint(4, 7)) for _ in range(80)]
    rows = [(" ".join(source), " ".join(words[word] for word in source)) for source in sources]
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in [("source", "target"), *rows]), encoding="utf-8")
    return path


def test_translators_are_compared_on_pairs_of_texts(weft_, pairs):
    small = [f"{name}=8" for name in ("embedding_size", "encoder_hidden_size", "decoder_hidden_size", "checked")]
    rung = ["--models", "copy,nearest,rnn", "--set", "tokenizer=words", "checks=1", *(f"rnn.{one}" for one in small)]
    done = weft_("compare", pairs, *QUICK, "--json", *rung)
    assert done.code == 0, done.err
    said = strict(done.out)
    assert said["dataset"]["task"] == "translation" and said["metric"] == "bleu"
    assert [(row["name"], row["status"]) for row in said["rungs"]] == [(name, "done") for name in ("copy", "nearest", "rnn")]
    assert 1 < said["metrics"]["bleu"] <= 100 and {"chrf", "exact_match"} < set(said["metrics"])
    assert "is best on development data; on test its BLEU is" in done.err and "test BLEU" in done.err


def test_the_whole_ladder_of_translators_is_climbed_unless_some_are_named(weft_, pairs, monkeypatch):
    from weft.compare import study

    planned = []
    monkeypatch.setattr(study, "run_study", lambda splits, plan, *_, **__: planned.append(plan) or {})
    assert weft_("compare", pairs).code == 0
    assert planned[0].rungs == tuple(TRANSLATION_RUNGS) and planned[0].metric == "bleu"
    for options, error in (
        (["--models", "svm"], "error: models: there is no 'svm'; there are copy, nearest, rnn"),
        (["--set", "metric=chrf"], "error: metric: translators are compared by bleu or exact_match, not 'chrf'"),
        (["--vectors", pairs], "error: vectors: translators learn their vocabularies' vectors from the pairs alone"),
    ):
        done = weft_("compare", pairs, *options)
        assert done.code == 2 and done.err.splitlines()[-1].startswith(error), done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--models", "bert"], "models: there is no 'bert'; there are majority, "),
        (["--models", ","], "models: there is no ''; there are majority, "),
        (["--seeds", "0"], "seeds: must be at least 1, not 0"),
        (["--seeds", "-2"], "seeds: must be at least 1"),
        (["--seed", "-1"], "--seed: must be from 0 to 4294967295, not -1"),
        (["--steps", "0"], "steps: must be at least 1, not 0"),
        (["--minutes", "0"], "minutes: must be a number above 0, not 0"),
        (["--trials", "0"], "trials: must be at least 1, not 0"),
        (["--set", "filtres=3"], "filtres: no such setting for this model (did you mean filters?)"),
        (["--set", "bert.size=3"], "--set: there is no model 'bert'"),
        (["--models", "svm", "--set", "cnn.filters=3"], "settings: there are settings for cnn, which is not among the models compared"),
        (["--set", "cnn.filters=many"], "filters: must be a whole number, like 100, not 'many'"),
        (["--set", "svm.C=-1"], "svm: C must be a number above 0"),
        (["--models", "cnn", "--device", "abacus"], "device: must be auto, cpu, cuda"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_trained(weft_, data, options, said):
    done = weft_("compare", data, "--out", "c", *options)
    assert done.code == 2
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and errors[0].startswith(f"error: {said}")
    assert "Traceback" not in done.err
    assert not list(data.parent.glob("c/runs/*"))


def test_settings_for_all_and_for_one():
    chosen = _settings(["dropout=0.3", "cnn.filters=200", "attention-lstm.hidden_size=8", "naive_bayes.alpha=1", "cnn.widths=2,3"], RUNGS)
    assert chosen == {
        "": {"dropout": "0.3"},
        "cnn": {"filters": "200", "widths": "2,3"},
        "attention-lstm": {"hidden_size": "8"},
        "naive-bayes": {"alpha": "1"},
    }
    assert _settings(None, RUNGS) == {}
    with pytest.raises(InputError, match="must be KEY=VALUE"):
        _settings(["dropout"], RUNGS)


def test_checks_on_the_data_are_said_first(weft_, tmp_path):
    rows = reviews(60)
    data = write_csv(tmp_path / "train.csv", [*rows, *rows[:3]])
    test = write_csv(tmp_path / "test.csv", [*reviews(20, seed=4), rows[0]])
    done = weft_("compare", data, "--test", test, "--models", "majority", "--json")
    kinds = {finding["kind"] for finding in strict(done.out)["dataset"]["checks"]}
    assert {"duplicates", "leakage-test"} <= kinds
    assert "warning: 1 of 21 test texts" in done.err or "warning: 1 test text" in done.err


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(data, tmp_path):
    """A process of its own, a real SIGINT in the middle of a training."""
    program = "import sys; from weft.cli.main import main; sys.exit(main())"
    command = ["compare", str(data), "--models", "majority,svm,cnn", "--seeds", "1", "--out", str(tmp_path / "c"), "--precision", "fp32"]

    def start(steps: int) -> subprocess.Popen:
        arguments = [*command, "--steps", str(steps), "--set", *CNN]
        return subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    process = start(10**6)
    for line in process.stderr:
        if line.startswith("svm "):
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == "" and "Traceback" not in err
    assert err.splitlines()[-1] == "interrupted"
    assert f"interrupted; what is finished is in {tmp_path / 'c'}, and the same command goes on from there" in err
    saved = strict((tmp_path / "c" / "results.json").read_text())
    assert [row["status"] for row in saved["rungs"]] == ["done", "done", "pending"]
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "c" / "runs").iterdir()}
    assert set(before) == {"majority-0.json", "svm-0.json"}
    process = start(5)
    assert process.wait(timeout=120) == 0
    saved = strict((tmp_path / "c" / "results.json").read_text())
    assert [row["status"] for row in saved["rungs"]] == ["done"] * 3
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "c" / "runs").iterdir()}
    assert {name: after[name] for name in before} == before  # neither was trained again
