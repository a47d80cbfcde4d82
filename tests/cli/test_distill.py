"""weft distill, from a teacher's folder and a file to a student's folder and a report."""

from __future__ import annotations

import json

import numpy as np
import pytest
from reviews import CNN, reviews, strict, write_csv

import weft
from weft.cli import main as cli

EXACT = ["--precision", "fp32", "--threads", "1"]
SMALL = ["--steps", "6", *EXACT, "--set", "embedding_size=8", "buckets=64", "learning_rate=0.02"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A teacher's folder, labelled data, a test set, texts without labels."""
    folder = tmp_path_factory.mktemp("distill")
    data = write_csv(folder / "reviews.csv", reviews(60))
    assert cli.main(["train", str(data), "--out", str(folder / "teacher"), *EXACT, "--set", *CNN, "epochs=8"]) == 0
    write_csv(folder / "test.csv", reviews(20, seed=9))
    more = folder / "more.txt"
    more.write_text("".join(f"{text}\n" for text, _ in reviews(30, seed=5)), encoding="utf-8")
    return folder


def test_a_student_its_report_and_what_it_is_beside(weft_, files, tmp_path):
    done = weft_(
        "distill", files / "teacher", "--student", "bag", files / "reviews.csv", "--unlabelled", files / "more.txt",
        "--test", files / "test.csv", "--out", tmp_path / "s", "--alone", "--json", *SMALL,
    )  # fmt: skip
    assert done.code == 0, done.err
    said = strict(done.out)
    assert (said["student"], said["split"], said["examples"], said["metric"]) == ("bag", "test", 20, "accuracy")
    assert [(one["what"], one["model"]) for one in said["models"]] == [
        ("teacher", "cnn"), ("student alone", "bag"), ("student distilled", "bag")
    ]  # fmt: skip
    assert "the teacher was asked for 84 texts, once" in done.err
    student, teacher = weft.load(tmp_path / "s"), weft.load(files / "teacher")
    texts, labels = map(list, zip(*reviews(20, seed=9), strict=True))
    for one, model in zip(said["models"][::2], (teacher, student), strict=True):
        assert one["metrics"]["accuracy"] == pytest.approx(model.evaluate(texts, labels)["accuracy"])
        assert one["parameters"] == model.parameters_ and one["texts_per_second"] > 0
        assert one["bytes"] == sum(array.nbytes for array in model.engine_.saved()[0].values())
    assert said["metrics"] == said["models"][-1]["metrics"]
    assert said["kept"] == pytest.approx(said["models"][2]["metrics"]["accuracy"] / said["models"][0]["metrics"]["accuracy"])
    saved = json.loads((tmp_path / "s" / "distillation.json").read_text())
    assert saved["speed_up"] == said["speed_up"]
    metrics = json.loads((tmp_path / "s" / "metrics.json").read_text())
    assert metrics["test"] == pytest.approx(said["metrics"]) and set(metrics["others"]) == {"teacher", "student alone"}
    assert "texts_per_second" not in str(metrics)  # what is timed differs from run to run
    assert "30 texts without labels; taught by cnn" in (tmp_path / "s" / "README.md").read_text()


def test_people_are_told_in_a_table(weft_, files, tmp_path):
    done = weft_("distill", files / "teacher", files / "reviews.csv", "--student", "bag", "--out", tmp_path / "s", *SMALL)
    assert done.code == 0 and done.out == ""
    assert "on development data, 6 texts" in done.err and "student distilled" in done.err
    assert "of the teacher's accuracy at" in done.err and "times smaller" in done.err
    answers = weft_("predict", tmp_path / "s", files / "more.txt")
    assert len(answers.lines) == 30


def test_the_same_again_is_the_same(weft_, files, tmp_path):
    for name in ("a", "b"):
        arguments = ["--unlabelled", files / "more.txt", "--out", tmp_path / name, "--follow", "0.5", "--share", "0.6", *SMALL]
        assert weft_("distill", files / "teacher", files / "reviews.csv", "--student", "bag", *arguments).code == 0
    for name in ("model.safetensors", "metrics.json", "tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "README.md", "config.json", "distillation.json", "metrics.json", "model.safetensors", "tokenizer.json"
    ]  # fmt: skip
    one, other = (weft.load(tmp_path / name).predict_proba(["great", "dull"]) for name in ("a", "b"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--student", "svm"], "--student: there is no student 'svm'"),
        (["--student", "bgg"], "did you mean bag?"),
        (["--temperature", "0"], "temperature: must be above 0"),
        (["--temperature", "-1"], "temperature: must be above 0"),
        (["--share", "1.1"], "share: must be from 0"),
        (["--on", "words"], "on: there is no 'words'"),
        (["--temperature", "2", "--on", "logits"], "temperature: is of probabilities"),
        (["--unlabelled", "EMPTY"], "the file is empty"),
        (["--unlabelled", "nowhere.txt"], "nowhere.txt"),
        (["--set", "filters=3"], "filters: no such setting"),
    ],
)
def test_what_is_refused(weft_, files, tmp_path, change, message):
    (tmp_path / "empty.txt").write_text("")
    change = [str(tmp_path / "empty.txt") if one == "EMPTY" else one for one in change]
    done = weft_("distill", files / "teacher", files / "reviews.csv", "--student", "bag", "--out", tmp_path / "s", *EXACT, *change)
    assert done.code == 2 and done.out == ""
    last = done.err.splitlines()[-1]
    assert last.startswith("error: ") and message in last, last


def test_teachers_and_data_that_do_not_fit(weft_, files, tmp_path):
    numbers = write_csv(tmp_path / "numbers.csv", [(text, str(i % 7 + 0.5)) for i, (text, _) in enumerate(reviews(40))])
    assert weft_("train", numbers, "--out", tmp_path / "numbers", "--model", "majority", "--task", "regression").code == 0
    done = weft_("distill", tmp_path / "numbers", numbers, "--out", tmp_path / "s")
    assert done.code == 2 and "is a TextRegressor, for regression; a teacher is a classifier of texts" in done.err.splitlines()[-1]
    others = write_csv(tmp_path / "others.csv", reviews(40, labels=("cold", "warm")))
    done = weft_("distill", files / "teacher", others, "--out", tmp_path / "s", "--student", "bag", *SMALL)
    assert done.code == 2 and "is no class of the teacher, which knows neg, pos" in done.err.splitlines()[-1]
    done = weft_("distill", files / "teacher", files / "reviews.csv", "--out", files / "teacher")
    assert done.code == 2 and "is the teacher's folder" in done.err.splitlines()[-1]
