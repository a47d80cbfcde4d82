"""weft train, evaluate and predict, from a file to a folder to answers."""

from __future__ import annotations

import gzip
import io
import json
import sys
from itertools import pairwise

import numpy as np
import pytest
from reviews import CNN, TINY, reviews, strict, write_csv

import weft
from weft.cli import main as cli
from weft.cli.options import spread_settings
from weft.estimators.rungs import RUNGS

EXACT = ["--precision", "fp32"]


@pytest.fixture
def data(tmp_path):
    return write_csv(tmp_path / "reviews.csv", reviews())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a trained cnn."""
    folder = tmp_path_factory.mktemp("models")
    data = write_csv(folder / "reviews.csv", reviews())
    assert cli.main(["train", str(data), "--out", str(folder / "m"), *EXACT, "--set", *CNN, "epochs=8"]) == 0
    return folder / "m"


# train


def test_json_is_one_strict_object_with_the_metrics_and_the_split_they_are_of(weft_, data, tmp_path):
    done = weft_("train", data, "--out", tmp_path / "m", "--json", *EXACT, "--set", *CNN)
    assert done.code == 0
    said = strict(done.out)
    assert said["split"] == "dev"
    assert said["examples"] == 6
    assert 0 <= said["metrics"]["accuracy"] <= 1
    assert said["training"]["steps"] == 4  # 54 texts, 50 a batch, 2 epochs
    assert said["model"] == "cnn" and said["folder"] == str(tmp_path / "m")
    assert "60 examples, classification of 2 classes; columns: text 'text', label 'label'" in done.err
    assert "split off" in done.err
    saved = json.loads((tmp_path / "m" / "metrics.json").read_text())
    assert saved["dev"] == pytest.approx(said["metrics"])


def test_a_test_set_is_what_is_reported_and_dev_is_kept_beside_it(weft_, data, tmp_path):
    test = write_csv(tmp_path / "test.csv", reviews(20, seed=9))
    valid = write_csv(tmp_path / "valid.csv", reviews(14, seed=8))
    done = weft_("train", data, "--valid", valid, "--test", test, "--out", tmp_path / "m", "--json", *EXACT, "--set", *CNN)
    said = strict(done.out)
    assert (done.code, said["split"], said["examples"]) == (0, "test", 20)
    saved = json.loads((tmp_path / "m" / "metrics.json").read_text())
    assert saved["test"] == pytest.approx(said["metrics"])
    assert set(saved["dev"]) == set(saved["test"])
    again = strict(weft_("evaluate", tmp_path / "m", test, "--json", *EXACT).out)
    assert again["metrics"] == pytest.approx(said["metrics"])
    assert strict(weft_("evaluate", tmp_path / "m", valid, "--json", *EXACT).out)["metrics"] == pytest.approx(saved["dev"])


def test_for_people_the_metrics_are_a_table_on_stderr_and_stdout_is_empty(weft_, data, tmp_path):
    done = weft_("train", data, "--out", tmp_path / "m", "--model", "svm", "--test", data)
    assert done.code == 0
    assert done.out == ""
    assert "svm on the test set, 60 texts" in done.err
    assert "accuracy" in done.err and "ROC-AUC" in done.err
    assert f"saved to {tmp_path / 'm'}; weft predict {tmp_path / 'm'} FILE answers" in done.err
    done = weft_("evaluate", tmp_path / "m", data)
    assert done.out == "" and f"svm on {data}, 60 texts" in done.err


@pytest.mark.parametrize("rung", list(RUNGS))
def test_every_model_trains_from_the_command_line(weft_, data, tmp_path, rung):
    from weft.estimators.settings import known_settings

    chosen = [pair for pair in TINY if pair.split("=")[0] in known_settings(rung)] if rung not in ("perceptron",) else []
    done = weft_("train", data, "--out", tmp_path / "m", "--model", rung, "--json", *EXACT, *(["--set", *chosen] if chosen else []))
    assert done.code == 0, done.err
    assert strict(done.out)["metrics"]["accuracy"] is not None
    assert strict(weft_("evaluate", tmp_path / "m", data, "--json").out)["examples"] == 60


def test_settings_of_every_kind(weft_, data, tmp_path):
    chosen = ["filters=3", "widths=2,3", "dropout=0.25", "lowercase=no", "clip=none", "pooling=mean", "head=6,5", "tokenizer=whitespace"]
    done = weft_("train", data, "--out", tmp_path / "m", *EXACT, "--epochs", "1", "--set", "embedding-size=8", *chosen, "--json")
    assert done.code == 0, done.err
    settings = json.loads((tmp_path / "m" / "config.json").read_text())["engine"]["settings"]
    expected = {"filters": 3, "widths": [2, 3], "dropout": 0.25, "lowercase": False, "clip": None, "pooling": "mean", "head": [6, 5]}
    assert {name: settings[name] for name in expected} == expected
    assert settings["embedding_size"] == 8 and settings["tokenizer"] == "whitespace"
    loaded = weft.load(tmp_path / "m")
    assert loaded.engine_.model.encoder.embedding.size == 8
    assert loaded.settings["widths"] == "2,3"  # what was typed is what is stored


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["filtres=3"], "error: filtres: no such setting for this model (did you mean filters?); there are activation, averaging, "),
        (["filters=many"], "error: filters: must be a whole number, like 100, not 'many'"),
        (["filters=2.5"], "error: filters: must be a whole number, like 100, not 2.5"),
        (["dropout=1.5"], "error: dropout: must be at least 0 and below 1, not 1.5"),
        (["widths=a"], "error: widths: must be whole numbers with commas between, like 3,4,5, not 'a'"),
        (["lowercase=maybe"], "error: lowercase: must be true or false, not 'maybe'"),
        (["pooling=median"], "error: pooling: there is no 'median' (did you mean mean?); there are max, "),
        (["batch_size=0"], "error: batch_size: must be at least 1, not 0"),
        (["filters"], "error: --set: must be KEY=VALUE, not 'filters'"),
        (["=3"], "error: --set: must be KEY=VALUE, not '=3'"),
        ([], "error: option '--set' requires an argument"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_would_be_right(weft_, data, tmp_path, pairs, said):
    done = weft_("train", data, "--out", tmp_path / "m", "--set", *pairs)
    assert done.code == 2
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and lines[0].startswith(said)
    assert done.err.endswith(lines[0] + "\n")
    assert not (tmp_path / "m" / "config.json").exists()


def test_set_takes_as_many_pairs_as_follow_it():
    spread = ["--set", "a=1", "--set", "b=2", "--out", "m", "--set", "c=3", "--json"]
    assert spread_settings(["--set", "a=1", "b=2", "--out", "m", "--set", "c=3", "--json"]) == spread
    assert spread_settings(spread) == spread
    assert spread_settings(["--set", "--out", "m"]) == ["--set", "--out", "m"]
    assert spread_settings(["x=1.csv", "--set", "a=b=c"]) == ["x=1.csv", "--set", "a=b=c"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "bert"], "--model: there is no 'bert'; there are majority, naive-bayes, "),
        (["--model", "lsmt"], "--model: there is no 'lsmt' (did you mean lstm?); there are majority, naive-bayes, "),
        (["--epochs", "0"], "epochs: must be a number above 0, not 0.0"),
        (["--minutes", "-1"], "minutes: must be a number above 0"),
        (["--steps", "3", "--epochs", "2"], "steps: give one budget, not epochs and steps"),
        (["--seed", "-1"], "--seed: must be from 0 to 4294967295, not -1"),
        (["--threads", "0"], "threads: must be at least 1"),
        (["--device", "abacus"], "device: must be auto, cpu, cuda"),
        (["--precision", "fp8"], "precision: must be one of auto, fp32, bf16"),
        (["--loss", "squared"], "loss: 'squared' does not fit classification"),
        (["--task", "ranking"], "--task: there is no task 'ranking'; it is one of classification, multi-label, regression, translate"),
        (["--batch-size", "0"], "batch_size: must be at least 1"),
        (["--epochs", "many"], "invalid value for '--epochs'"),
        (["--nonsense"], "no such option: --nonsense"),
    ],
)
def test_a_wrong_option_is_one_line(weft_, data, tmp_path, options, said):
    done = weft_("train", data, "--out", tmp_path / "m", *options)
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(f"error: {said}")
    assert sum(line.startswith("error: ") for line in done.err.splitlines()) == 1


def test_minutes_are_turned_into_steps_that_are_recorded(weft_, data, tmp_path):
    done = weft_("train", data, "--out", tmp_path / "m", "--minutes", "0.01", "--json", *EXACT, "--set", *CNN[:-1])
    steps = strict(done.out)["training"]["steps"]
    assert f"0.01 minutes are {steps} steps" in done.err
    assert json.loads((tmp_path / "m" / "metrics.json").read_text())["training"]["steps"] == steps
    assert weft_("train", data, "--out", tmp_path / "n", "--steps", steps, *EXACT, "--set", *CNN[:-1]).code == 0
    assert (tmp_path / "n" / "model.safetensors").read_bytes() == (tmp_path / "m" / "model.safetensors").read_bytes()


def test_interrupted_and_resumed_is_the_run_that_was_never_interrupted(weft_, data, tmp_path, monkeypatch):
    from weft.training import loop

    command = ["train", data, *EXACT, "--set", *CNN, "epochs=5"]
    assert weft_(*command, "--out", tmp_path / "whole").code == 0
    step = loop._Run.step

    def until_the_fifth(run, batch):
        if run.state.step == 5:
            raise KeyboardInterrupt
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", until_the_fifth)
    stopped = weft_(*command, "--out", tmp_path / "m")
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == "interrupted"
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["checkpoint.safetensors"]
    monkeypatch.setattr(loop._Run, "step", step)
    resumed = weft_(*command, "--out", tmp_path / "m", "--resume")
    assert resumed.code == 0
    assert "resumed at step 5 of 10" in resumed.err
    for name in ("model.safetensors", "metrics.json", "tokenizer.json"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "m" / "checkpoint.safetensors").exists()


def test_a_checkpoint_of_another_run_is_refused_and_one_forgotten_is_said(weft_, data, tmp_path, monkeypatch):
    from weft.training import loop

    step = loop._Run.step

    def only_the_first(run, batch):
        if run.state.step:
            raise KeyboardInterrupt
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", only_the_first)
    assert weft_("train", data, "--out", tmp_path / "m", *EXACT, "--set", *CNN).code == 130
    monkeypatch.setattr(loop._Run, "step", step)
    other = weft_("train", data, "--out", tmp_path / "m", *EXACT, "--resume", "--set", *CNN, "learning_rate=0.5")
    assert other.code == 2
    assert "this checkpoint was made with learning_rate=0.02, not 0.5; start without --resume" in other.err
    again = weft_("train", data, "--out", tmp_path / "m", *EXACT, "--set", *CNN)
    assert again.code == 0
    assert "holds the checkpoint of an interrupted run; --resume would have gone on from it" in again.err
    anew = weft_("train", data, "--out", tmp_path / "m", *EXACT, "--set", *CNN, "--resume")
    assert anew.code == 0 and "holds no checkpoint: training starts at the beginning" in anew.err
    baseline = weft_("train", data, "--out", tmp_path / "m", "--model", "svm", "--resume")
    assert baseline.code == 0 and "svm is trained in one go: there is nothing to resume" in baseline.err


def test_a_model_is_not_written_over_other_files(weft_, data, tmp_path):
    (tmp_path / "project").mkdir()
    readme = tmp_path / "project" / "README.md"
    readme.write_text("mine")
    done = weft_("train", data, "--out", tmp_path / "project", "--model", "svm")
    assert done.code == 2
    assert done.err == f"error: {tmp_path / 'project'}: is a folder with other files in it (README.md); give a new one for the model\n"
    assert readme.read_text() == "mine"
    readme.unlink()
    assert weft_("train", data, "--out", tmp_path / "project", "--model", "svm").code == 0  # empty
    assert weft_("train", data, "--out", tmp_path / "project", "--model", "majority").code == 0  # a model is replaced
    assert weft.load(tmp_path / "project").model == "majority"


def test_several_labels_numbers_and_pairs_from_a_file(weft_, tmp_path):
    rows = reviews(60)
    several = write_csv(tmp_path / "several.csv", [(text, f"{label}|film" if "film" in text else label) for text, label in rows])
    numbers = write_csv(tmp_path / "numbers.csv", [(text, 1.5 + i % 2 + i / 100) for i, (text, _) in enumerate(rows)], ["text", "score"])
    pairs = write_csv(tmp_path / "pairs.csv", [(a, b, x) for (a, x), (b, _) in pairwise(rows)], ["text", "other", "label"])
    expected = {several: "micro_f1", numbers: "r2", pairs: "accuracy"}
    for path, metric in expected.items():
        more = ["--pair-column", "other"] if path is pairs else []
        done = weft_("train", path, "--out", tmp_path / path.stem, "--json", *more, *EXACT, "--set", *CNN)
        assert done.code == 0, done.err
        assert next(iter(strict(done.out)["metrics"])) == metric
        answers = [json.loads(line) for line in weft_("predict", tmp_path / path.stem, path, *more, *EXACT).out.splitlines()]
        assert len(answers) == len(path.read_text().splitlines()) - 1
        wanted = {"micro_f1": {"labels", "probabilities"}, "r2": {"value"}, "accuracy": {"label", "score", "probabilities"}}[metric]
        assert all(set(answer) == wanted for answer in answers)
    assert weft.load(tmp_path / "pairs").pair_


def test_labels_of_the_test_set_that_training_never_saw_are_said_and_wrong(weft_, data, tmp_path):
    rows = reviews(20, seed=4)
    test = write_csv(tmp_path / "test.csv", [(text, "meh" if i < 5 else label) for i, (text, label) in enumerate(rows)])
    done = weft_("train", data, "--test", test, "--out", tmp_path / "m", "--model", "svm", "--json")
    assert strict(done.out)["metrics"]["accuracy"] <= 0.75
    assert "warning: 5 of 20 texts have a label that training never saw (meh): they count as wrong" in done.err


# evaluate


def test_evaluate_a_model_whose_labels_are_numbers_in_python(weft_, tmp_path):
    rows = reviews(40)
    made = weft.TextClassifier("svm").fit([text for text, _ in rows], [int(label == "pos") for _, label in rows])
    made.save(tmp_path / "m")
    data = write_csv(tmp_path / "a.csv", [(text, int(label == "pos")) for text, label in rows])
    done = weft_("evaluate", tmp_path / "m", data, "--json")
    assert strict(done.out)["metrics"]["accuracy"] == 1.0  # "1" in the file is 1


def test_evaluate_needs_labels(weft_, model, tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    done = weft_("evaluate", model, tmp_path / "a.txt")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(f"error: {tmp_path / 'a.txt'}:1: the lines have no labels")


# predict


def predictions(done) -> list[dict]:
    assert done.code == 0, done.err
    return [strict(line) for line in done.out.splitlines()]


def test_answers_come_in_the_inputs_order_with_label_score_and_probabilities(weft_, model, tmp_path):
    rows = reviews(300, seed=3)
    path = write_csv(tmp_path / "a.csv", rows)
    answers = predictions(weft_("predict", model, path, *EXACT))
    loaded = weft.load(model, precision="fp32")
    texts = [text for text, _ in rows]
    assert [answer["label"] for answer in answers] == list(loaded.predict(texts))
    assert np.allclose([list(answer["probabilities"].values()) for answer in answers], loaded.predict_proba(texts), atol=1e-6)
    assert all(list(answer) == ["label", "score", "probabilities"] for answer in answers)
    assert all(list(answer["probabilities"]) == ["neg", "pos"] for answer in answers)
    assert all(answer["score"] == max(answer["probabilities"].values()) == answer["probabilities"][answer["label"]] for answer in answers)


def test_every_format_and_standard_input_give_the_same_answers(weft_, model, tmp_path, monkeypatch):
    texts = [text for text, _ in reviews(12, seed=5)]
    lines = "".join(text + "\n" for text in texts)
    files = {
        "a.txt": lines.encode(),
        "a.csv": ("text\n" + lines).encode(),
        "b.csv": ("id,text,label\n" + "".join(f"{i},{text},pos\n" for i, text in enumerate(texts))).encode(),
        "a.tsv": ("text\tlabel\n" + "".join(f"{text}\tneg\n" for text in texts)).encode(),
        "a.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in texts).encode(),
        "a.txt.gz": gzip.compress(lines.encode()),
        "no-suffix": lines.encode(),
    }
    expected = predictions(weft_("predict", model, write_csv(tmp_path / "x.csv", [(text, "pos") for text in texts]), *EXACT))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert predictions(weft_("predict", model, tmp_path / name, *EXACT)) == expected, name
    for arguments in ([], ["-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
        assert predictions(weft_("predict", model, *arguments, *EXACT)) == expected


def test_empty_texts_unknown_words_and_half_surrogates_have_answers_one_for_one(weft_, model, tmp_path):
    (tmp_path / "a.txt").write_text("great film\n\n   \nzzz qqq\n", encoding="utf-8")
    done = weft_("predict", model, tmp_path / "a.txt", *EXACT)
    answers = predictions(done)
    assert len(answers) == 4
    assert answers[1] == answers[2]
    assert "warning: " in done.err and "2 of 4 texts are empty (the first in line 2): kept" in done.err
    (tmp_path / "a.jsonl").write_text('{"text": "a \\ud83d film"}\n{"text": "great"}\n{"text": ""}\n{}\n')
    done = weft_("predict", model, tmp_path / "a.jsonl", *EXACT)
    assert len(predictions(done)) == 4
    assert "lone surrogates in 1 text are no characters: replaced with U+FFFD" in done.err


@pytest.mark.parametrize(("tokenizer", "size"), [("words", 10_500_000), ("characters", 10_500_000), ("bpe", 1_000_000)])
def test_a_line_of_ten_megabytes_is_answered_and_what_is_cut_is_said(weft_, data, tmp_path, tokenizer, size):
    chosen = [*CNN[:-1], f"tokenizer={tokenizer}", *(["maximum_size=300"] if tokenizer == "bpe" else [])]
    assert weft_("train", data, "--out", tmp_path / "m", "--steps", "2", *EXACT, "--set", *chosen).code == 0
    long = tmp_path / "long.txt"
    long.write_text("great film\n" + "the dull film " * (size // 14) + "\n" + "x" * size + "\n")
    done = weft_("predict", tmp_path / "m", long, *EXACT)
    assert len(predictions(done)) == 3
    cut = 1 if tokenizer == "words" else 2  # a single word is long in letters alone
    assert f"{cut} of 3 texts are longer than maximum_length=400 tokens and were cut there" in done.err


def test_labels_that_are_no_ascii_are_printed_so_that_json_reads_them(weft_, tmp_path):
    rows = reviews(40, labels=("schlecht, ä", 'gut "ß"'))
    assert weft_("train", write_csv(tmp_path / "a.csv", rows), "--out", tmp_path / "m", "--model", "svm").code == 0
    (tmp_path / "b.txt").write_text("great superb\n")
    (answer,) = predictions(weft_("predict", tmp_path / "m", tmp_path / "b.txt"))
    assert answer["label"] == 'gut "ß"'


def test_a_file_is_read_by_the_columns_of_training(weft_, tmp_path):
    """The longer column would be guessed; the model was trained on the other."""
    rows = [(text, "word " * 30 + str(i), label) for i, (text, label) in enumerate(reviews(40))]
    data = write_csv(tmp_path / "a.csv", rows, ["summary", "body", "label"])
    done = weft_("train", data, "--out", tmp_path / "m", "--model", "svm", "--text-column", "summary", "--json")
    assert done.code == 0, done.err
    answers = predictions(weft_("predict", tmp_path / "m", data))
    assert [answer["label"] for answer in answers] == [label for _, _, label in rows]
    assert strict(weft_("evaluate", tmp_path / "m", data, "--json").out)["metrics"]["accuracy"] == 1.0


# word vectors


def test_a_model_starts_from_word_vectors_and_needs_them_no_more(weft_, data, tmp_path):
    path = tmp_path / "small.vec"
    path.write_text("4 3\nthe 1 2 3\nfilm 0.5 0 -1\ngreat 1 1 1\nawful -1 -1 -1\n")
    done = weft_("train", data, "--out", tmp_path / "m", "--vectors", path, "--json", *EXACT, "--set", "filters=4", "vectors_mode=static")
    assert done.code == 0, done.err
    assert "small.vec: 4 of " in done.err and "3-dimensional" in done.err
    path.unlink()
    answered = weft_("evaluate", tmp_path / "m", data, "--json")
    assert answered.code == 0 and strict(answered.out)["examples"] == 60
    for options, said in (
        (["--vectors", path], f"{path}: cannot be read"),
        (["--set", "vectors_mode=static"], "vectors_mode: 'static' keeps a table"),
        (["--model", "svm", "--vectors", data], "vectors: 'svm' starts from no word vectors"),
    ):
        failed = weft_("train", data, "--out", tmp_path / "n", *options)
        assert failed.code == 2 and f"error: {said}" in failed.err


def test_a_ladder_starts_from_word_vectors(weft_, data, tmp_path):
    path = tmp_path / "small.vec"
    path.write_text("4 3\nthe 1 2 3\nfilm 0.5 0 -1\ngreat 1 1 1\nawful -1 -1 -1\n")
    options = ["--models", "svm,cnn", "--steps", "2", "--seeds", "1", "--json", "--out", tmp_path / "ladder", *EXACT]
    done = weft_("compare", data, *options, "--vectors", path, "--set", "vectors_mode=multichannel", "filters=4")
    assert done.code == 0, done.err
    assert strict(done.out)["vectors"]["modes"] == {"cnn": "multichannel"}
    failed = weft_("compare", data, *options, "--vectors", path, "--set", "embedding_size=4")
    assert failed.code == 2 and "error: embedding_size: the vectors are 3-dimensional, so it cannot be 4" in failed.err
