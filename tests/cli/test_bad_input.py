"""What is wrong with a file, a folder or a name is one line, `error: FILE:LINE: what, and what would be right`; exit code 2."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from reviews import reviews, write_csv

from weft.cli import main as cli

LINES = "".join(f"{text},{label}\n" for text, label in reviews(40))
GOOD = "text,label\n" + LINES


@pytest.fixture
def refused(capsys):
    """refused(arguments) → the error, which must be the one line that is said to be wrong, the last one, and exit code 2."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert code == 2, captured.err
        assert "Traceback" not in captured.err and "internal error" not in captured.err
        assert captured.out == ""
        errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, captured.err
        assert captured.err.splitlines()[-1] == errors[0]
        return errors[0]

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    assert cli.main(["train", str(write_csv(folder / "a.csv", reviews(40))), "--out", str(folder / "m"), "--model", "svm"]) == 0
    return folder / "m"


# name of the file, its content, where the fault is, words of the message
FILES = [
    ("empty.csv", b"", "", "the file is empty; a line for each example was expected"),
    ("blank.csv", b"\n\n  \n", "", "the file is empty"),
    ("header.csv", b"text,label\n", ":1", "there is a header and nothing below it; a row for each example was expected"),
    ("one-class.csv", GOOD.replace("neg", "pos").encode(), "", "every one of the 40 examples has the label 'pos'; a classifier needs"),
    ("no-label.csv", b"text\n" + "".join(f"{text}\n" for text, _ in reviews(40)).encode(), ":1", "no column looks like labels"),
    ("ragged.csv", (GOOD + "one cell\n").encode(), ":42", "1 cell where the first row has 2; every row needs the same number"),
    ("too-wide.csv", (GOOD + "a,b,c\n" + LINES).encode(), ":42", "3 cells where the first row has 2"),
    ("open-quote.csv", (GOOD + '"never closed,pos\n' + LINES).encode(), ":42", "a quoted field that starts here never ends"),
    ("nul.csv", (GOOD + "a\0b,pos\n").encode(), ":42", "there is a NUL byte at character 2; text has none"),
    ("utf16.csv", GOOD.encode("utf-16"), ":1", "the file is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"),
    ("utf16-le.csv", GOOD.encode("utf-16-le"), ":1", "the file looks like UTF-16LE; save it as UTF-8"),
    ("utf32.csv", GOOD.encode("utf-32"), ":1", "the file is UTF-32"),
    ("latin-1.csv", (GOOD + "un café,pos\n").encode("latin-1"), ":42", "byte 0xe9 (byte 7 of the line) is no UTF-8; save the file"),
    ("missing.csv", (GOOD + "a film,\n").encode(), ":42", "the label is missing"),
    ("broken.jsonl", b'{"text": "a", "label": "x"}\n{"text": "b", \n', ":2", "broken JSON at character"),
    ("list.jsonl", b'{"text": "a", "label": "x"}\n["b", "y"]\n', ":2", "a list where an object was expected"),
    ("broken.json", b'[{"text": "a", "label": "x"},\n {"text": "b"\n', ":", "broken JSON"),
    ("cut.csv.gz", gzip.compress(GOOD.encode() * 50)[:-40], ":", "the gzip data is cut off or damaged here"),
    ("not.csv.gz", GOOD.encode(), "", "is no gzip file, though its name ends in .gz"),
    ("cut.jsonl.gz", gzip.compress(b'{"text": "a", "label": "x"}\n' * 9)[:12], ":1", "the gzip data is cut off or damaged here"),
    ("plain.txt", b"one text\nanother\n", ":1", "the lines have no labels; each begins with __label__NAME"),
    ("damaged.parquet", b"PAR1" + bytes(100), "", "is no readable Parquet file"),
    ("few.csv", b"text,label\na,x\nb,y\n", "", "are too few, or too much the same, to set a"),
]


@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize(("name", "content", "line", "said"), FILES, ids=[name for name, *_ in FILES])
def test_a_file_that_cannot_be_learnt_from(refused, tmp_path, command, name, content, line, said):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    error = refused(command, tmp_path / name, "--out", tmp_path / "out")
    assert error.startswith(f"error: {tmp_path / name}{line}")
    assert said in error
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["empty.csv", "ragged.csv", "nul.csv", "utf16.csv", "latin-1.csv", "broken.jsonl", "cut.csv.gz"])
@pytest.mark.parametrize("option", ["--valid", "--test"])
def test_the_file_beside_the_training_file_is_the_one_named(refused, tmp_path, name, option):
    content, line, said = next((content, line, said) for other, content, line, said in FILES if other == name)
    (tmp_path / "good.csv").write_text(GOOD)
    (tmp_path / name).write_bytes(content)
    error = refused("train", tmp_path / "good.csv", option, tmp_path / name, "--out", tmp_path / "out", "--model", "svm")
    assert error.startswith(f"error: {tmp_path / name}{line}")
    assert said in error


@pytest.mark.parametrize("name", ["empty.csv", "ragged.csv", "nul.csv", "utf16.csv", "latin-1.csv", "broken.jsonl", "cut.csv.gz"])
def test_texts_that_cannot_be_read_are_refused_by_evaluate_and_predict_too(refused, tmp_path, model, name):
    content, line, said = next((content, line, said) for other, content, line, said in FILES if other == name)
    (tmp_path / name).write_bytes(content)
    for command in ("predict", "evaluate"):
        error = refused(command, model, tmp_path / name)
        assert error.startswith(f"error: {tmp_path / name}{line}")
        assert said in error


@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize(
    ("options", "line", "said"),
    [
        (["--text-column", "body"], ":1", "there is no column 'body' for --text-column; the columns are 'text' and 'label'"),
        (["--label-column", "stars"], ":1", "there is no column 'stars' for --label-column; the columns are 'text' and 'label'"),
        (["--pair-column", "other"], ":1", "there is no column 'other' for --pair-column; the columns are 'text' and 'label'"),
        (["--text-column", "3"], ":1", "there is no column '3' for --text-column; the columns are 'text' and 'label'"),
        (["--label-column", "0"], ":1", "for --label-column"),
        (["--text-column", "label", "--label-column", "label"], "", ""),
        (["--task", "regression"], ":2", "number"),
    ],
)
def test_columns_and_tasks_that_the_file_does_not_have(refused, tmp_path, command, options, line, said):
    (tmp_path / "a.csv").write_text(GOOD)
    error = refused(command, tmp_path / "a.csv", "--out", tmp_path / "out", *options)
    assert error.startswith(f"error: {tmp_path / 'a.csv'}{line}")
    assert said in error


@pytest.mark.parametrize("command", ["train", "compare"])
def test_paths_that_are_not_what_they_should_be(refused, tmp_path, command):
    (tmp_path / "a.csv").write_text(GOOD)
    (tmp_path / "folder").mkdir()
    error = refused(command, tmp_path / "folder", "--out", tmp_path / "out")
    assert error == f"error: {tmp_path / 'folder'}: is a folder; a file of examples was expected"
    missing = tmp_path / "missing.csv"
    error = refused(command, missing, "--out", tmp_path / "out")
    assert error.startswith(f"error: {missing}: no such file, and no such dataset; the datasets are ")
    assert "movie-reviews" in refused(command, "no-such-dataset", "--out", tmp_path / "out")
    error = refused(command, tmp_path / "a.csv", "--out", tmp_path / "a.csv")
    assert error.startswith(f"error: {tmp_path / 'a.csv'}: is a file; ")
    error = refused(command, tmp_path / "a.csv", "--out", tmp_path / "out", "--valid", missing)
    assert error == f"error: {missing}: there is no such file"
    error = refused(command, "trec", "--out", tmp_path / "out", "--label-column", "x")
    assert "trec is a named dataset with splits and columns of its own" in error


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_files_that_may_not_be_read_or_written(refused, tmp_path):
    data = tmp_path / "a.csv"
    data.write_text(GOOD)
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "Permission denied" in refused("train", data, "--out", tmp_path / "closed" / "m", "--model", "svm")
    data.chmod(0)
    assert refused("train", data, "--out", tmp_path / "m").startswith(f"error: {data}: cannot be read (Permission denied)")


# model folders


def test_what_is_no_model_folder(refused, tmp_path, model):
    (tmp_path / "a.csv").write_text(GOOD)
    for command in (["predict"], ["evaluate"]):
        for folder in (tmp_path / "missing", tmp_path, tmp_path / "a.csv"):
            error = refused(*command, folder, tmp_path / "a.csv")
            assert error == f"error: {folder}: is not a model folder (no config.json in it); weft train DATA --out FOLDER makes one"
    assert refused("predict", model, tmp_path / "none.txt") == f"error: {tmp_path / 'none.txt'}: there is no such file"
    assert refused("predict", model, tmp_path).startswith(f"error: {tmp_path}: is a folder")


def damaged(folder: Path, model: Path, name: str, content: bytes | None) -> Path:
    shutil.copytree(model, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.safetensors", b"", "differs from what config.json says was saved: the folder was altered or half copied"),
        ("model.safetensors", None, "is missing: the model folder is incomplete"),
        ("tokenizer.json", b"{}", "differs from what config.json says was saved"),
        ("tokenizer.json", None, "is missing: the model folder is incomplete"),
        ("config.json", b"", "broken JSON"),
        ("config.json", b'{"format": "weft-model-1",', "broken JSON"),
        ("config.json", b"[]", "is not a weft model of format"),
        ("config.json", b'{"model_type": "bert"}', "holds a pretrained encoder (bert): weft train DATA --from"),
        ("config.json", b'{"format": "weft-model-1"}', "config.json"),
        ("config.json", "{}".encode("utf-16"), "is no UTF-8"),
    ],
)
def test_a_model_folder_that_was_altered(refused, tmp_path, model, name, content, said):
    folder = damaged(tmp_path / "m", model, name, content)
    (tmp_path / "a.txt").write_text("a film\n")
    error = refused("predict", folder, tmp_path / "a.txt")
    assert error.startswith(f"error: {folder / name}")
    assert said in error


def test_a_model_of_a_later_version(refused, tmp_path, model):
    config = json.loads((model / "config.json").read_text())
    (tmp_path / "a.txt").write_text("a film\n")
    for change, said in (
        ({"estimator": "TextPainter"}, "holds a 'TextPainter'; this version of weft knows TextClassifier, TextRegressor"),
        ({"parameters": {**config["parameters"], "model": "mamba"}}, "model: there is no 'mamba'"),
        ({"parameters": {**config["parameters"], "hyperdrive": 3}}, "is not what this version of weft writes"),
        ({"engine": {}}, "lacks 'kind'"),
    ):
        folder = damaged(tmp_path / "m", model, "config.json", json.dumps({**config, **change}).encode())
        assert said in refused("predict", folder, tmp_path / "a.txt")
        shutil.rmtree(folder)


def test_pairs_for_a_model_of_single_texts_and_the_other_way_round(refused, tmp_path, model):
    rows = [(text, text, label) for text, label in reviews(40)]
    pairs = write_csv(tmp_path / "pairs.csv", rows, ["text", "other", "label"])
    assert "this model was trained on single texts" in refused("predict", model, pairs, "--pair-column", "other", "--text-column", "text")
    trained = cli.main(["train", str(pairs), "--pair-column", "other", "--out", str(tmp_path / "p"), "--model", "majority"])
    assert trained == 0
    (tmp_path / "a.txt").write_text("a film\n")
    assert "this model was trained on pairs of texts" in refused("predict", tmp_path / "p", tmp_path / "a.txt")


# the process itself


def weft(*arguments: object, given: bytes = b"") -> SimpleNamespace:
    """A process of its own, as the shell starts it."""
    program = "import sys; from weft.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], input=given, capture_output=True, check=False)
    return SimpleNamespace(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())


def test_as_a_process_an_error_is_one_line_and_exit_code_2(tmp_path, model):
    (tmp_path / "utf16.csv").write_bytes(GOOD.encode("utf-16"))
    done = weft("train", tmp_path / "utf16.csv", "--out", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    said = f"error: {tmp_path / 'utf16.csv'}:1: the file is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)\n"
    assert done.err == said
    done = weft("predict", model, given=b"a\xffb\n")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith("error: standard input:1: byte 0xff (byte 2 of the line)")
    assert done.err.count("error: ") == 1


def test_as_a_process_lone_surrogates_and_odd_bytes_in_names_do_not_break_the_printing(tmp_path):
    done = weft("train", os.fsdecode(bytes(tmp_path) + b"/caf\xe9.csv"), "--out", tmp_path / "m")  # no UTF-8, as old disks have
    assert done.code == 2
    assert done.err.startswith("error: ") and "no such file" in done.err
