"""The ladder of translators on tiny pairs: floors and networks side by side, by BLEU; what it is made of is held to sacreBLEU."""

from __future__ import annotations

import io
import logging
import math
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import sacrebleu
from reviews import strict
from rich.console import Console

from weft.compare import study
from weft.compare.checks import check_data
from weft.compare.curve import project
from weft.compare.ladder import Plan, climb
from weft.compare.ratios import bootstrap_ratio, paired_permutation_bleu, paired_permutation_ratio
from weft.compare.runs import carry_out
from weft.compare.summary import MISTAKES, RESAMPLES
from weft.compare.tuning import candidates, space
from weft.data.examples import Example, Splits, Table
from weft.errors import InputError, MissingExtra
from weft.estimators.rungs import TRANSLATION_RUNGS
from weft.estimators.settings import known_settings, typed_settings
from weft.metrics_text import exact_counts

OPTIONS = {"device": "cpu", "precision": "fp32", "threads": 1}
SMALL = {
    "embedding_size": "8", "encoder_hidden_size": "8", "decoder_hidden_size": "8", "hidden_size": "8", "filters": "8", "layers": "1",
    "heads": "2", "inner": "8", "attention_size": "8", "tokenizer": "words", "checks": "1", "checked": "8",
}  # fmt: skip
SMALL_RNN = {name: value for name, value in SMALL.items() if name in known_settings("rnn", "translation")}
NAMES = {"name": "t", "command": "weft compare t", "started": "now", "split_note": "by hand"}
WORDS = {"the": "die", "cat": "Katze", "dog": "Hund", "sees": "sieht", "a": "eine", "red": "rote", "bird": "Vogel", "42": "42", ".": "."}


def table(count: int, seed: int, several: bool = False) -> Table:
    """Sources of 4 to 7 words and their targets, word for word; every third with another target beside it."""
    draw, rows = random.Random(seed), []
    for place in range(count):
        words = draw.choices(list(WORDS), k=draw.randint(4, 7))
        target = " ".join(WORDS[word] for word in words)
        rows.append(Example(" ".join(words), (target, target.lower()) if several and place % 3 == 0 else target, None, place + 1))
    return Table(rows, "translation", "t")


def make_splits(several: bool = False) -> Splits:
    return Splits(table(60, 1), table(12, 2, several), table(16, 3, several))


def plan(*rungs: str, **more) -> Plan:
    known = {name for rung in rungs for name in known_settings(rung, "translation")}
    small = {"": {**{name: value for name, value in SMALL.items() if name in known}, **more.pop("set_", {})}}
    return Plan(rungs, **{"seeds": (0, 1), "steps": 2, "settings": small, "options": OPTIONS, "task": "translation", **more})


def run_study(splits: Splits, chosen: Plan, folder, width: int = 500, terminal: bool = False, **more):
    """results, what was printed."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, highlight=False)
    results = study.run_study(splits, chosen, folder, **NAMES, console=console, **more)
    return results, " ".join(out.getvalue().split())


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    """(results, printed, splits, the standing): floors and two networks, whose dev and test have several targets."""
    folder, splits, chosen = tmp_path_factory.mktemp("climbed"), make_splits(several=True), plan("copy", "nearest", "rnn", "transformer")
    results, printed = run_study(splits, chosen, folder)
    assert strict((folder / "results.json").read_text())["best"]["name"] == results["best"]["name"]
    return results, printed, (folder / "report.html").read_text(), splits, climb(splits, chosen, folder)


def test_every_rung_climbs(climbed):
    results, _, _, splits, standing = climbed
    assert results["metric"] == "bleu" and results["dataset"]["task"] == "translation" and results["dataset"]["labels"] == []
    assert [row["status"] for row in results["rungs"]] == ["done"] * 4, [row["error"] for row in results["rungs"]]
    assert list(standing.runs) == ["copy", "nearest", "rnn", "transformer"]
    assert results["best"]["name"] == "nearest" and "note" not in results
    references = [[label] if isinstance(label, str) else list(label) for label in splits.test.labels]
    streams = [[right[n] if n < len(right) else None for right in references] for n in range(2)]
    for row in results["rungs"]:
        for run, value in zip(standing.runs[row["name"]], row["test"]["values"], strict=True):
            assert value == run.reported["bleu"] == pytest.approx(sacrebleu.corpus_bleu(run.predictions, streams).score, abs=1e-9)
            assert np.shape(run.example_scores) == (16, 10)
            assert len(run.confidences) == 16 and all(0 <= one <= 1 for one in run.confidences)
        assert {"chrf", "exact_match", "word_error_rate", "token_error_rate"} == set(row["test_metrics"])
        low, high = row["test"]["interval"]
        assert 0 <= low <= row["test"]["mean"] + 1e-9 and low <= high <= 100
    assert standing.runs["copy"][0].predictions == splits.test.texts
    assert [run.steps for run in standing.runs["rnn"]] == [2, 2] and standing.runs["nearest"][1].steps is None


def test_the_test_against_the_best_is_of_bleu(climbed):
    results, _, _, _, standing = climbed
    best = [run.example_scores for run in standing.runs["nearest"]]
    for row in results["rungs"]:
        if row["name"] != "nearest":
            own = [run.example_scores for run in standing.runs[row["name"]]]
            assert row["p_value"] == paired_permutation_bleu(own, best)
    assert results["rungs"][2]["p_value"] < 0.01


def test_what_is_shown_fits_pairs_of_texts(climbed):
    results, printed, report, splits, _ = climbed
    score = f"{results['rungs'][1]['test']['mean']:.1f}"
    assert f"on test its BLEU is {score} ± 0.0" in printed and "dev BLEU" in printed
    assert "a text for a text" in report and "chrF" in report and "BLEU on test data" in report
    assert "reference: " in report and "; answer: " in report and "labelled " not in report and "Far from the reference" in report
    mistakes = results["best"]["mistakes"]
    assert 0 < len(mistakes) <= MISTAKES and results["best"]["confusion"] is None
    by_text = {example.text: example for example in splits.test.examples}
    for one in mistakes:
        label = by_text[one["text"]].label
        assert one["label"] == (label if isinstance(label, str) else " | ".join(label))
        assert one["predicted"] not in one["label"].split(" | ") and 0 <= one["confidence"] <= 1


def test_mistakes_are_the_surest_that_are_far(climbed):
    from weft.compare.summary import _mistakes

    splits, run = climbed[3], climbed[4].runs["nearest"][0]
    right = [label if isinstance(label, str) else label[1] for label in splits.test.labels]
    said = [right[0], "", f"{right[2]} .", "x y z", *right[4:]]
    run = replace(run, predictions=said, confidences=[0.9, 0.5, 0.9, 0.8, *[1.0] * 12])
    assert [one["line"] for one in _mistakes(run, splits.test, "translation")] == [4, 2, 3]
    assert _mistakes(run, splits.test, "translation")[1]["predicted"] == "(nothing)"


def test_confidence_is_the_mean_tokens_probability():
    splits = make_splits()
    made = carry_out(splits, "rnn", 0, typed_settings("rnn", SMALL_RNN, "translation"), steps=2, **OPTIONS)
    from weft.estimators.training import estimator_for, targets_of, texts_of

    again = estimator_for(splits.train, model="rnn", settings=SMALL_RNN, random_state=0, steps=2, **OPTIONS)
    again.fit(splits.train.texts, targets_of(splits.train), (splits.dev.texts, targets_of(splits.dev)))
    answers = [found[0] for found in again.translations(texts_of(splits.test))]
    assert made.predictions == [one.text for one in answers]
    tokens = [len(one.tokens) + one.finished for one in answers]
    assert max(tokens) > 1
    expected = [math.exp(one.log_probability / count) for one, count in zip(answers, tokens, strict=True)]
    assert made.confidences == pytest.approx(expected, abs=1e-5)


def test_exact_match_is_compared_by_where_it_is_asked_for(tmp_path):
    splits, chosen = make_splits(), plan("copy", "nearest", set_={"metric": "exact_match"})
    results, printed = run_study(splits, chosen, tmp_path)
    assert results["metric"] == "exact_match" and "note" not in results and "dev exact match" in printed
    standing = climb(splits, chosen, tmp_path)
    runs = standing.runs["nearest"]
    counts = [exact_counts(run.predictions, splits.test.labels) for run in runs]
    row = results["rungs"][1]
    assert row["test"]["mean"] == counts[0][:, 0].mean() and "bleu" in row["test_metrics"]
    assert row["test"]["interval"] == list(bootstrap_ratio(counts, resamples=RESAMPLES))
    other = [exact_counts(run.predictions, splits.test.labels) for run in standing.runs["copy"]]
    assert next(one["p_value"] for one in results["rungs"] if one["name"] != results["best"]["name"]) in (
        paired_permutation_ratio(counts, other), paired_permutation_ratio(other, counts),
    )  # fmt: skip


def test_without_sacrebleu_exact_match_stands_in_which_is_said(tmp_path, monkeypatch, caplog):
    for name in ("sacrebleu.metrics.bleu", "sacrebleu.metrics.chrf"):
        monkeypatch.setitem(sys.modules, name, None)
    with caplog.at_level(logging.WARNING, logger="weft"):
        results, printed = run_study(make_splits(), plan("copy", "nearest", "rnn"), tmp_path)
    said = "sacreBLEU is not there: compared by exact match, without BLEU and chrF (BLEU needs the extra: pip install 'weft[translate]')"
    assert [row["status"] for row in results["rungs"]] == ["done"] * 3, [row["error"] for row in results["rungs"]]
    assert results["metric"] == "exact_match" and results["note"] == said
    assert said in printed and said in caplog.messages and "dev exact match" in printed
    assert "compared by exact match" in (tmp_path / "report.html").read_text()
    assert "bleu" not in results["rungs"][2]["test_metrics"]
    with pytest.raises(MissingExtra):
        plan("copy", set_={"metric": "bleu"})


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(InputError, match="metric: translators are compared by bleu or exact_match, not 'chrf'"):
        plan("copy", set_={"metric": "chrf"})
    with pytest.raises(InputError, match="vectors: translators learn"):
        plan("rnn", vectors="v.vec")
    with pytest.raises(InputError, match="there is no 'svm'"):
        Plan(("svm",), task="translation")


@pytest.mark.parametrize("rung", TRANSLATION_RUNGS)
def test_what_is_drawn_is_a_setting_of_the_rung_and_a_value_it_can_have(rung):
    assert set(space(rung, "translation")) <= known_settings(rung, "translation")
    for candidate in candidates(rung, {}, 20, 1, task="translation"):
        assert typed_settings(rung, candidate, "translation") == candidate


def test_trials_choose_by_the_metric_that_is_compared_by(tmp_path):
    standing = climb(make_splits(), plan("nearest", trials=4, set_={"metric": "exact_match"}), tmp_path)
    assert standing.errors == {} and set(standing.tuned["nearest"]) <= {"ngrams", "metric"}
    assert standing.tuned["nearest"]["metric"] == "exact_match"


def test_the_curve_counts_pairs(tmp_path):
    results, printed = run_study(make_splits(), plan("nearest"), tmp_path, curve=True)
    assert results["curve"]["sizes"][-1] == 60 and max(results["curve"]["mean"]) > 1
    assert "dev BLEU by the number of training pairs: " in printed
    assert "Would more pairs help?" in (tmp_path / "report.html").read_text()


def test_the_projection_of_bleu_is_that_of_a_share():
    sizes, shares = [100, 200, 400, 800], [[0.1, 0.12], [0.15, 0.14], [0.2, 0.21], [0.24, 0.26]]
    share = project(sizes, shares, 500, "accuracy", "pairs")
    points = project(sizes, [[100 * value for value in row] for row in shares], 500, "bleu", "pairs")
    assert points["sentence"] == share["sentence"] and "500 more pairs would bring about +" in points["sentence"]
    assert [points["mean"], *points["interval"]] == pytest.approx([100 * share["mean"], *(100 * one for one in share["interval"])])


def test_checks_speak_of_pairs():
    splits = make_splits()
    train = replace(splits.train, examples=[*splits.train.examples, splits.train.examples[0], Example("ok", "ok", None, 62)])
    found = {one["kind"]: one["message"] for one in check_data(Splits(train, splits.dev, splits.test))}
    assert {"duplicates", "copied", "small-test"} <= set(found)
    assert "label" not in " ".join(found.values()) and "class" not in " ".join(found.values())


def test_minutes_are_shared_out(tmp_path):
    standing = climb(make_splits(), plan("copy", "rnn", steps=None, minutes=0.02, seeds=(0,)), tmp_path)
    assert standing.errors == {} and list(standing.steps) == ["rnn"] and standing.steps["rnn"] >= 20


def test_on_a_terminal_the_table_is_redrawn(tmp_path):
    _, printed = run_study(make_splits(), plan("copy", "nearest"), tmp_path, width=100, terminal=True)
    assert "dev BLEU" in printed and "trainings" in printed
