"""weft train, evaluate, predict and explain on pairs of texts: from a file to a folder to answers; what is wrong, in one line."""

from __future__ import annotations

import json
import random
import sys

import pytest

from weft.cli import main as cli

TINY = ["tokenizer=whitespace", "metric=exact_match", "hidden_size=16", "embedding_size=16", "maximum_size=50", "batch_size=16"]
TINY += ["attention_size=8", "embedding_std=0.5", "embedding_scale=1", "learning_rate=2e-2", "dropout=0", "label_smoothing=0", "checks=2"]
EXACT = ["--precision", "fp32", "--threads", "1"]


def pairs(count: int, seed: int) -> str:
    """Two to four letters, and the same in capitals from the end."""
    draw, lines = random.Random(seed), ["source\ttarget"]
    for _ in range(count):
        letters = [draw.choice("abcd") for _ in range(draw.randint(2, 4))]
        lines.append(" ".join(letters) + "\t" + " ".join(letters[::-1]).upper())
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    where = tmp_path_factory.mktemp("pairs")
    for number, (name, count) in enumerate((("train", 120), ("dev", 30), ("test", 30))):
        (where / f"{name}.tsv").write_text(pairs(count, number))
    return where


@pytest.fixture(scope="module")
def model(files):
    """A trained translator, and the one JSON line that its training printed is checked where it is made."""
    out = files / "model"
    arguments = ["train", str(files / "train.tsv"), "--valid", str(files / "dev.tsv"), "--model", "rnn-attention", "--out", str(out)]
    assert cli.main([*arguments, "--epochs", "12", "--task", "translate", "--set", *TINY, *EXACT]) == 0
    return out


def test_training_evaluates_and_writes_a_card(weft_, files, model):
    done = weft_("evaluate", model, files / "test.tsv", "--json", *EXACT)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert next(iter(found["metrics"])) == "exact_match" and found["metrics"]["exact_match"] > 0.7  # what was learnt holds for new pairs
    assert found["metrics"]["chrf"] > 70 and found["metrics"]["token_error_rate"] < 0.2 and "bleu" in found["metrics"]
    card = (model / "README.md").read_text()
    assert "tags: [text2text-generation]" in card and "| exact_match |" in card


def test_predict_answers_by_a_beam_by_samples_and_best_first(weft_, files, model, monkeypatch):
    (files / "new.txt").write_text("a b\n\nc d a\n")
    done = weft_("predict", model, files / "new.txt", *EXACT)
    answers = [json.loads(line) for line in done.lines]
    assert [answer["translation"] for answer in answers] == ["B A", "", "A D C"]
    assert "1 of 3 sources are empty" in done.err
    several = [json.loads(line) for line in weft_("predict", model, files / "new.txt", "--n-best", "3", *EXACT).lines]
    scores = [several[0]["score"], *(one["score"] for one in several[0]["others"])]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True) and several[0]["translation"] == "B A"
    drawn = ["predict", model, files / "new.txt", "--sample", "--temperature", "3", *EXACT]
    first, again, other = (weft_(*drawn, "--seed", seed).out for seed in (1, 1, 2))
    assert first == again != other
    short = [json.loads(line)["translation"] for line in weft_("predict", model, files / "new.txt", "--max-length", "1", *EXACT).lines]
    assert short == ["B", "", "A"]


def test_explain_shows_the_alignment(weft_, model, tmp_path):
    page, picture = tmp_path / "page.html", tmp_path / "picture.png"
    done = weft_("explain", model, "a b c", "--target", "C B A", "--out", page, "--json")  # the folder is no command: alignment is meant
    found = json.loads(done.out)
    assert done.code == 0 and found["source"] == ["a", "b", "c"] and found["target"] == ["C", "B", "A", "</s>"]
    weights = found["maps"][0]["weights"]
    assert [len(row) for row in weights] == [3] * 4 and all(abs(sum(row) - 1) < 1e-2 for row in weights)  # in bf16 too
    assert "<h1>a b c → C B A</h1>" in page.read_text()
    pytest.importorskip("matplotlib")
    assert weft_("explain", "alignment", model, "a b", "--target", "B A", "--out", picture).code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def wrong(weft_, *arguments):
    """The error, which must be one line."""
    done = weft_(*arguments)
    assert done.code == 2, done.err
    assert done.out == "" and "Traceback" not in done.err
    return done.err.splitlines()[-1]


def test_what_is_wrong_is_said_in_one_line(weft_, files, model, tmp_path):
    out = ["--out", tmp_path / "none"]
    train = ["train", files / "train.tsv", "--valid", files / "dev.tsv", *out]
    assert "--model: 'cnn' does not do translation; those that do are" in wrong(weft_, *train, "--model", "cnn")
    assert "--loss" in wrong(weft_, *train, "--loss", "hinge")
    assert "attention: there is no 'sum'" in wrong(weft_, *train, "--model", "rnn", "--set", "attention=sum")
    assert "no such setting" in wrong(weft_, *train, "--set", "decoder_filters=3")
    assert "embeddings of both sides are one for one vocabulary" in wrong(weft_, *train, "--set", "shared=false", "maximum_size=300")
    assert "target_tokenizer: one vocabulary of both sides" in wrong(weft_, *train, "--set", "target_tokenizer=characters")
    assert "--beam: is of a beam search" in wrong(weft_, "predict", model, files / "test.tsv", "--sample", "--beam", "2")
    assert "--temperature: is for targets that are drawn" in wrong(weft_, "predict", model, files / "test.tsv", "--temperature", "2")
    assert "--n-best: 5 targets need a --beam of as many" in wrong(
        weft_, "predict", model, files / "test.tsv", "--n-best", "5", "--beam", "2"
    )
    assert "--beam: must be at least 1, not 0" in wrong(weft_, "predict", model, files / "test.tsv", "--beam", "0")
    assert "the minimum, 3, is above the maximum, 2" in wrong(
        weft_, "predict", model, files / "test.tsv", "--min-length", "3", "--max-length", "2"
    )
    assert "source: is empty" in wrong(weft_, "explain", model, " ")
    assert "ends in .html" in wrong(weft_, "explain", model, "a", "--out", "a.txt")


def test_options_of_a_search_are_refused_elsewhere(weft_, tmp_path):
    data = tmp_path / "labels.csv"
    data.write_text("text,label\n" + "".join(f"word{i} {'good' if i % 2 else 'bad'},{i % 2}\n" for i in range(20)))
    assert weft_("train", data, "--model", "naive-bayes", "--out", tmp_path / "m").code == 0
    assert "--beam: is for models that answer with texts; this one does classification" in wrong(
        weft_, "predict", tmp_path / "m", data, "--beam", "2"
    )
    assert "'naive-bayes' has no attention to show" in wrong(weft_, "explain", "alignment", tmp_path / "m", "a")


def test_models_lists_the_translators(weft_):
    listed = json.loads(weft_("models", "--json").out)["models"]
    assert {"rnn", "rnn-attention", "transformer"} <= {row["name"] for row in listed if row["tasks"] == ["translation"]}


def test_help_answers_without_torch(weft_):
    """The options of a search cost the command line no import of torch."""
    before = "torch" in sys.modules
    assert weft_("predict", "--help").code == 0
    assert before or "torch" not in sys.modules
