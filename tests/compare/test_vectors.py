"""Word vectors on the ladder: every neural rung starts from them and no other, finished runs are theirs alone, and the report says so."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from reviews import BAD, FILL, GOOD, TINY, reviews, strict
from rich.console import Console

from weft.compare import curve, ladder, study, tuning
from weft.compare.ladder import Plan, climb
from weft.compare.runs import carry_out, fingerprint
from weft.compare.summary import summarise
from weft.data.examples import Example, Splits, Table
from weft.errors import InputError
from weft.estimators.rungs import RUNGS
from weft.estimators.settings import known_settings
from weft.vectors.keyed import KeyedVectors

OPTIONS = {"device": "cpu", "precision": "fp32", "threads": 1}
NAMES = {"name": "t", "command": "weft compare t", "started": "now", "split_note": "by hand"}
SMALL = dict(pair.split("=") for pair in TINY if not pair.startswith(("epochs", "embedding_size")))  # the size is the vectors'
NEURAL = [rung for rung in RUNGS if RUNGS[rung].engine == "neural"]
WORDS = [*FILL, *GOOD, *BAD]


def make_splits() -> Splits:
    """48 training, 16 development and 20 test texts."""
    examples = [Example(text, label, None, number) for number, (text, label) in enumerate(reviews(84), 1)]
    return Splits(*(Table(part, "classification", "t") for part in (examples[:48], examples[48:64], examples[64:])))


def write(path, seed: int = 0, size: int = 5):
    KeyedVectors(WORDS, np.random.default_rng(seed).normal(0, 0.3, (len(WORDS), size)).astype(np.float32)).save(path)
    return str(path)


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "small.vec")


def plan(*rungs: str, vectors=None, settings=None, **more) -> Plan:
    known = {name for rung in rungs for name in known_settings(rung)}
    small = {"": {name: value for name, value in SMALL.items() if name in known}}
    return Plan(rungs, **{"seeds": (0, 1), "steps": 3, "options": OPTIONS, "settings": settings or small, "vectors": vectors, **more})


@pytest.fixture
def trained(monkeypatch):
    """The rungs that are really trained."""
    done = []
    for module in (ladder, tuning, curve):
        monkeypatch.setattr(
            module, "carry_out", lambda splits, rung, *given, **more: done.append(rung) or carry_out(splits, rung, *given, **more)
        )
    return done


def test_every_neural_rung_starts_from_them_and_no_baseline(file, tmp_path):
    suited = [rung for rung in RUNGS if RUNGS[rung].engine in ("neural", "baseline")]
    standing = climb(make_splits(), plan(*suited, vectors=file, seeds=(0,)), tmp_path / "runs")
    assert not standing.errors
    for rung, (run,) in standing.runs.items():
        assert ("vectors" in run.extra) == (rung in NEURAL)
        if rung in NEURAL:
            assert (run.extra["vectors"]["size"], run.extra["vectors"]["mode"]) == (5, "non-static")
            assert 10 < run.extra["vectors"]["found"] <= len(WORDS)


def test_a_finished_run_is_used_again_only_from_the_same_vectors(file, tmp_path, trained):
    splits, folder = make_splits(), tmp_path / "runs"
    climb(splits, plan("svm", "cnn", vectors=None), folder)
    assert trained == ["svm", "svm", "cnn", "cnn"]
    first = climb(splits, plan("svm", "cnn", vectors=file), folder)
    assert trained[4:] == ["cnn", "cnn"]  # the svm of before serves, the cnn without vectors does not
    again = climb(splits, plan("svm", "cnn", vectors=write(tmp_path / "a copy.vec")), folder)
    assert len(trained) == 6 and again.runs == first.runs
    climb(splits, plan("svm", "cnn", vectors=write(tmp_path / "small.vec", seed=1)), folder)  # other numbers in the file of that name
    assert trained[6:] == ["cnn", "cnn"]
    climb(splits, plan("svm", "cnn", vectors=None), folder)
    assert trained[8:] == ["cnn", "cnn"]


def test_fingerprints_tell_vectors_apart(file, tmp_path):
    splits = make_splits()

    def key(**more):
        return fingerprint(splits, "cnn", 0, {}, 3, {**OPTIONS, **more})

    other = write(tmp_path / "other.vec", seed=1)
    assert len({key(), key(vectors=file), key(vectors=other)}) == 3
    assert key(vectors=write(tmp_path / "copy.vec")) == key(vectors=file)


def test_a_budget_is_measured_anew_for_other_vectors(file, tmp_path, monkeypatch):
    timed = []
    monkeypatch.setattr(ladder, "_timed", lambda splits, rung, settings, chosen: timed.append(rung) or (0.05, 4))
    for vectors, expected in ((None, 1), (file, 2), (file, 2), (write(tmp_path / "copy.vec"), 2), (write(tmp_path / "o.vec", seed=1), 3)):
        climb(make_splits(), plan("cnn", vectors=vectors, steps=None, minutes=0.2, seeds=(0,)), tmp_path / "runs")
        assert len(timed) == expected


def test_trials_and_the_learning_curve_start_from_them_too(file, tmp_path, monkeypatch):
    given = []

    def spy(splits, rung, *rest, **options):
        given.append((rung, options.get("vectors"), rest[1].get("embedding_size")))
        return carry_out(splits, rung, *rest, **options)

    for module in (ladder, tuning, curve):
        monkeypatch.setattr(module, "carry_out", spy)
    splits, chosen = make_splits(), plan("svm", "cnn", vectors=file, trials=3, seeds=(0,))
    standing = climb(splits, chosen, tmp_path / "runs")
    curve.learning_curve(splits, "cnn", chosen, standing, tmp_path / "runs")
    assert {(rung, vectors) for rung, vectors, _ in given} == {("svm", None), ("cnn", file)}
    assert [rung for rung, *_ in given].count("cnn") == 3 + 1 + 3
    assert {size for *_, size in given} == {None}  # the vectors' size is not drawn


def test_what_is_drawn_besides_stays_the_same():
    with_size = tuning.candidates("cnn", {}, 5, 0)
    without = tuning.candidates("cnn", {}, 5, 0, ("embedding_size",))
    assert [{name: value for name, value in one.items() if name != "embedding_size"} for one in with_size] == without


def test_results_and_report_say_so(file, tmp_path):
    out = io.StringIO()
    chosen = plan("svm", "cnn", "lstm", vectors=file, settings={"lstm": {"vectors_mode": "static", "hidden_size": 8}})
    results = study.run_study(make_splits(), chosen, tmp_path / "out", console=Console(file=out, width=200), **NAMES)
    vectors = results["vectors"]
    assert vectors["modes"] == {"cnn": "non-static", "lstm": "static"}
    said = f"small.vec: {vectors['found']} of {vectors['words']} words found ({100 * vectors['found'] // vectors['words']}%), 5-dimensional"
    assert vectors["sentence"] == said and len(vectors["sha256"]) == 64
    assert strict((tmp_path / "out" / "results.json").read_text())["vectors"] == vectors
    assert f"the neural models started from {said}" in out.getvalue()
    report = (tmp_path / "out" / "report.html").read_text()
    assert f"<dt>word vectors</dt><dd>{said} (sha256 {vectors['sha256'][:16]}); non-static: cnn; static: lstm</dd>" in report


def test_without_them_nothing_is_said(tmp_path):
    standing = climb(make_splits(), plan("majority", "cnn", seeds=(0,)), tmp_path)
    assert "vectors" not in summarise(make_splits(), standing, **NAMES, checks=[], device="cpu")


def test_where_no_rung_got_to_use_them_that_is_said(tmp_path):
    path = tmp_path / "other.vec"
    KeyedVectors(["mot", "phrase"], np.ones((2, 5), np.float32)).save(path)
    standing = climb(make_splits(), plan("majority", "cnn", vectors=str(path)), tmp_path / "runs")
    assert "holds none of the" in standing.errors["cnn"] and "majority" in standing.runs
    assert summarise(make_splits(), standing, **NAMES, checks=[], device="cpu")["vectors"] is None


@pytest.mark.parametrize(
    ("settings", "vectors", "said"),
    [
        ({"": {"embedding_size": "64"}}, True, "embedding_size: the vectors are 5-dimensional, so it cannot be 64"),
        ({"cnn": {"embedding_size": 64}}, True, "embedding_size: the vectors are 5-dimensional, so it cannot be 64"),
        ({"": {"vectors_mode": "static"}}, False, "vectors_mode: 'static' keeps a table of given word vectors as it is"),
        ({"": {"vectors_mode": "frozen"}}, True, "vectors_mode: there is no 'frozen'"),
    ],
)
def test_what_does_not_fit_them_is_refused_before_anything_is_trained(file, tmp_path, trained, settings, vectors, said):
    with pytest.raises(InputError) as caught:
        climb(make_splits(), plan("svm", "cnn", settings=settings, vectors=file if vectors else None), tmp_path)
    assert str(caught.value).startswith(said) and trained == []


def test_files_that_are_none_are_refused_before_anything_is_trained(tmp_path, trained):
    (tmp_path / "text.vec").write_text("not a file of vectors\n")
    for name, said in (("none.vec", "cannot be read"), ("text.vec", "text.vec")):
        with pytest.raises(InputError, match=said):
            climb(make_splits(), plan("svm", "cnn", vectors=str(tmp_path / name)), tmp_path / "runs")
    assert trained == []


def test_a_ladder_of_baselines_has_no_use_for_them(file):
    with pytest.raises(InputError, match="vectors: none of the models compared is neural"):
        Plan(("majority", "svm"), vectors=file)


def test_kept_runs_hold_what_the_vectors_gave(file, tmp_path):
    climb(make_splits(), plan("cnn", vectors=file, seeds=(0,)), tmp_path / "runs")
    written = json.loads((tmp_path / "runs" / "runs" / "cnn-0.json").read_text())
    assert written["extra"]["vectors"]["file"] == "small.vec"
    standing = climb(make_splits(), plan("cnn", vectors=file, seeds=(0,)), tmp_path / "runs")
    assert standing.runs["cnn"][0].extra == written["extra"]
