"""weft train, evaluate, predict and compare on tagged files, from a file to a folder to answers; what is wrong with one, in one line."""

from __future__ import annotations

import gzip
import io
import json
import random
import sys
from pathlib import Path

import pytest
from reviews import strict
from tiny import MINILM

from weft.cli import main as cli
from weft.data import conll
from weft.estimators.rungs import TAGGER_RUNGS, TAGGING_RUNGS

SMALL = ["embedding_size=8", "hidden_size=8", "character_size=4", "character_hidden=4"]
EXACT = ["--precision", "fp32", "--threads", "1"]
PARTS = {"PRON": ("she", "he", "it"), "VERB": ("saw", "likes", "bakes"), "DET": ("a", "the"), "NOUN": ("cat", "bread", "town")}
FINE = {"PRON": "PRP", "VERB": "VB", "DET": "DT", "NOUN": "NN", "PUNCT": "."}
NAMES = ("Ann", "Bob", "Lee")


def conllu(count: int = 60, seed: int = 0) -> str:
    """Sentences that their words' parts of speech are plain in."""
    draw, lines = random.Random(seed), []
    for number in range(count):
        parts = [*list(PARTS)[: draw.randint(2, 4)], "PUNCT"]
        lines.append(f"# sent_id = {number}")
        for place, part in enumerate(parts, start=1):
            word = "." if part == "PUNCT" else draw.choice(PARTS[part])
            lines.append(f"{place}\t{word}\t{word}\t{part}\t{FINE[part]}\t_\t0\tdep\t_\t_")
        lines.append("")
    return "\n".join(lines) + "\n"


def people(count: int = 60, seed: int = 0) -> str:
    """Sentences of names, in two columns, BIO."""
    draw, lines = random.Random(seed), []
    for _ in range(count):
        lines += [f"{draw.choice(NAMES)} B-PER", *([f"{draw.choice(NAMES)} I-PER"] if draw.random() < 0.5 else [])]
        lines += ["saw O", f"{draw.choice(('Rome', 'Oslo'))} B-LOC", f"n{draw.randrange(10**6)} O", ""]
    return "\n".join(lines) + "\n"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


@pytest.fixture
def refused(weft_):
    """The error, which must be the one line that is said to be wrong, the last one, and exit code 2."""

    def run(*arguments: object) -> str:
        done = weft_(*arguments)
        assert done.code == 2, done.err
        assert "Traceback" not in done.err and "internal error" not in done.err and done.out == ""
        errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and done.err.splitlines()[-1] == errors[0], done.err
        return errors[0]

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two trained taggers: parts of speech (pos), entities (ner)."""
    where = tmp_path_factory.mktemp("taggers")
    write(where / "ewt.conllu", conllu())
    write(where / "people.conll", people())
    train = ["train", "--steps", "60", "--model", "char-bilstm-crf", *EXACT, "--set", *SMALL, "learning_rate=0.03"]
    pos = [*train, "--out", where / "pos", where / "ewt.conllu", "--task", "tag", "--column", "upos"]
    for arguments in (pos, [*train, "--out", where / "ner", where / "people.conll"]):
        assert cli.main([str(one) for one in arguments]) == 0
    return where


def test_train_tells_what_came_of_it(weft_, folder, tmp_path):
    done = weft_(
        "train", folder / "ewt.conllu", "--task", "tag", "--column", "upos", "--model", "char-bilstm-crf", "--out", tmp_path / "m",
        "--steps", 8, "--json", *EXACT, "--set", *SMALL,
    )  # fmt: skip
    assert done.code == 0, done.err
    said = strict(done.out)
    assert said["model"] == "char-bilstm-crf" and said["split"] == "dev" and said["training"]["steps"] == 8
    assert "accuracy" in said["metrics"] and "span_f1" not in said["metrics"]
    assert "60 sentences" in done.err and "words in column 'form', tags in 'upos'" in done.err.lower()
    done = weft_("train", folder / "people.conll", "--out", tmp_path / "usual", "--steps", 2, *EXACT, "--set", *SMALL)
    assert done.code == 0 and done.out == ""
    assert "char-bilstm-crf on development data, 6 sentences" in done.err  # the usual model
    assert "span F1" in done.err and "the tags are spans in BIO" in done.err


def test_evaluate_reads_the_column_it_was_trained_on(weft_, folder, tmp_path):
    held = write(tmp_path / "held.conllu", conllu(20, seed=9))
    done = weft_("evaluate", folder / "pos", held, "--json", *EXACT)
    said = strict(done.out)
    assert done.code == 0 and said["examples"] == 20 and said["metrics"]["accuracy"] > 0.9
    other = strict(weft_("evaluate", folder / "pos", held, "--json", "--column", "xpos", *EXACT).out)
    assert other["metrics"]["accuracy"] == 0.0  # its tags are none of training's
    entities = strict(weft_("evaluate", folder / "ner", write(tmp_path / "p.conll", people(20, 5)), "--json", *EXACT).out)
    assert entities["metrics"]["span_f1"] > 0.9 and entities["metrics"]["unknown_accuracy"] >= 0


def test_predict_answers_raw_text_with_offsets_and_spans(weft_, folder, tmp_path):
    text = "Ann Lee saw Oslo."
    file = write(tmp_path / "news.txt", f"{text}\n\nBob saw  Rome\n")
    done = weft_("predict", folder / "ner", file, *EXACT)
    assert done.code == 0, done.err
    first, *rest = map(strict, done.lines)
    assert first["tokens"] == ["Ann", "Lee", "saw", "Oslo", "."] and first["tags"][:4] == ["B-PER", "I-PER", "O", "B-LOC"]
    assert [text[start:end] for start, end in first["offsets"]] == first["tokens"]
    assert [(span["type"], text[span["from"] : span["to"]]) for span in first["spans"]] == [("PER", "Ann Lee"), ("LOC", "Oslo")]
    assert len(first["confidences"]) == 5 and rest[-1]["tokens"] == ["Bob", "saw", "Rome"]
    assert "spans" not in strict(weft_("predict", folder / "pos", file, *EXACT).lines[0])


def test_predict_answers_a_file_of_tokens_with_or_without_tags(weft_, folder, tmp_path):
    tagged = weft_("predict", folder / "ner", write(tmp_path / "p.conll", "Ann B-PER\nsaw O\n\nRome B-LOC\n"), *EXACT)
    bare = weft_("predict", folder / "ner", write(tmp_path / "bare.conll", "Ann\nsaw\n\nRome\n"), *EXACT)
    assert tagged.code == bare.code == 0, bare.err
    assert tagged.lines == bare.lines and len(bare.lines) == 2
    answer = strict(bare.lines[0])
    assert answer["tokens"] == ["Ann", "saw"] and answer["tags"] == ["B-PER", "O"] and "offsets" not in answer
    done = weft_("predict", folder / "pos", folder / "ewt.conllu", *EXACT)
    assert len(done.lines) == 60 and strict(done.lines[0])["tokens"]


def test_predict_reads_standard_input(weft_, folder, monkeypatch):
    for given, tokens in ((b"Ann saw Rome.\nBob\n", [["Ann", "saw", "Rome", "."], ["Bob"]]), ("Ünï 👩‍👧 x\n".encode(), None)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        done = weft_("predict", folder / "ner", *EXACT)
        assert done.code == 0, done.err
        answers = [strict(line) for line in done.lines]
        if tokens is not None:
            assert [one["tokens"] for one in answers] == tokens


def test_several_columns_are_learnt_together(weft_, folder, tmp_path):
    done = weft_(
        "train", folder / "ewt.conllu", "--column", "upos,xpos", "--task", "tag", "--model", "bilstm", "--out", tmp_path / "m",
        "--steps", 60, "--json", *EXACT, "--set", *SMALL, "learning_rate=0.03", "levels=upos:1,xpos:2", "weights=xpos:0.5",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert set(strict(done.out)["metrics"]) >= {"accuracy", "xpos accuracy"}
    said = strict(weft_("evaluate", tmp_path / "m", folder / "ewt.conllu", "--json", *EXACT).out)
    assert said["metrics"]["xpos accuracy"] > 0.9
    answer = strict(weft_("predict", tmp_path / "m", folder / "ewt.conllu", *EXACT).lines[0])
    assert len(answer["others"]["xpos"]) == len(answer["tokens"]) == len(answer["tags"])


@pytest.mark.parametrize("rung", TAGGING_RUNGS)
def test_every_tagger_trains_from_the_command_line(weft_, folder, tmp_path, rung):
    neural = TAGGING_RUNGS[rung].engine == "neural"
    sizes = ["--steps", 2, "--set", "embedding_size=8", "character_hidden=4", *(["filters=4"] if rung == "cnn" else ["hidden_size=8"])]
    done = weft_("train", folder / "people.conll", "--out", tmp_path / "m", "--model", rung, "--json", *EXACT, *(sizes if neural else []))
    assert done.code == 0, done.err
    assert strict(done.out)["metrics"]["span_f1"] >= 0
    assert strict(weft_("evaluate", tmp_path / "m", folder / "people.conll", "--json", *EXACT).out)["examples"] == 60


def test_a_checkpoint_is_fine_tuned_from_the_command_line(weft_, folder, tmp_path):
    given = ["--from", MINILM, "--steps", 150, "--json", *EXACT, "--set", "learning_rate=3e-3", "maximum_length=60", "batch_size=16"]
    done = weft_("train", folder / "people.conll", "--out", tmp_path / "m", *given)
    assert done.code == 0, done.err
    assert strict(done.out)["metrics"]["span_f1"] > 0.9
    file = write(tmp_path / "raw.txt", "Ann saw Rome\n")
    answer = strict(weft_("predict", tmp_path / "m", file, *EXACT).lines[0])
    assert [one["text"] for one in answer["spans"]] == ["Ann", "Rome"]


def test_resumed_is_as_never_interrupted(weft_, folder, tmp_path, monkeypatch):
    train = ["train", folder / "people.conll", "--steps", 12, *EXACT, "--set", *SMALL, "checks=6", "--out"]
    assert weft_(*train, tmp_path / "whole").code == 0
    from weft.estimators.tag_network import SpanF1

    before, calls = SpanF1.compute, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return before(self)

    monkeypatch.setattr(SpanF1, "compute", interrupted)
    assert weft_(*train, tmp_path / "m").code == 130
    monkeypatch.setattr(SpanF1, "compute", before)
    assert weft_(*train, tmp_path / "m", "--resume").code == 0
    for name in ("model.safetensors", "tokenizer.json", "metrics.json"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_compare_puts_taggers_side_by_side(weft_, folder, tmp_path):
    done = weft_(
        "compare", folder / "people.conll", "--models", "majority,crf,bilstm-crf", "--steps", 10, "--seeds", 2, "--out", tmp_path / "c",
        "--json", *EXACT, "--set", "bilstm-crf.embedding_size=8", "bilstm-crf.hidden_size=8",
    )  # fmt: skip
    assert done.code == 0, done.err
    said = strict(done.out)
    assert said["metric"] == "span_f1" and said["dataset"]["task"] == "spans"
    assert {rung["name"] for rung in said["rungs"]} == {"majority", "crf", "bilstm-crf"}
    assert 0 < said["metrics"]["span_f1"] <= 1
    kept = json.loads((tmp_path / "c" / "results.json").read_text())
    assert {rung["name"]: rung["test"]["mean"] for rung in kept["rungs"]}["crf"] > 0.5
    report = (tmp_path / "c" / "report.html").read_text()
    assert "span F1" in report and "bilstm-crf" in report
    again = weft_("compare", folder / "people.conll", "--models", "majority,svm", "--steps", 1, "--out", tmp_path / "d")
    assert again.code == 2 and "svm" in again.err


def test_models_lists_the_taggers(weft_):
    listed = [(one["name"], tuple(one["tasks"])) for one in strict(weft_("models", "--json").out)["models"]]
    assert all((name, ("tagging", "spans")) in listed for name in TAGGER_RUNGS)


# what is wrong


GOOD = people(12)
FILES = [
    ("empty.conll", "", "", "empty"),
    ("blank.conll", "\n\n\n", "", ""),
    ("ragged.conll", GOOD + "Ann B-PER\nsaw\n", ":", "cell"),
    ("one.conll", "Ann\nsaw\n\nRome\n", ":1", "one column, of words; training and measuring need one of tags"),
    ("same.conll", "Ann O\nsaw O\n\nRome O\n", "", ""),
    ("tag.conll", "Ann\tB-PER\nsaw\t \n\n", ":2", ""),
    ("utf16.conll", GOOD.encode("utf-16"), ":1", "the file is UTF-16"),
    ("latin.conll", b"caf\xe9 O\nAnn B-PER\n\n", ":1", "byte 0xe9"),
    ("cut.conll.gz", gzip.compress(GOOD.encode())[:30], "", "gzip"),
    ("few.conllu", "1\tAnn\tAnn\tNOUN\n", ":1", ""),
]


@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize(("name", "content", "line", "said"), FILES, ids=[name for name, *_ in FILES])
def test_a_tagged_file_that_cannot_be_learnt_from(refused, tmp_path, command, name, content, line, said):
    path = write(tmp_path / name, content)
    error = refused(command, path, "--out", tmp_path / "out")
    assert error.startswith(f"error: {path}{line}") and said in error
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_ragged_columns_are_named_by_file_and_line(refused, tmp_path):
    path = write(tmp_path / "r.conll", GOOD + "Ann B-PER\nsaw O extra\n")
    line = GOOD.count("\n") + 2
    assert refused("train", path, "--out", tmp_path / "m").startswith(f"error: {path}:{line}: ")


def test_columns_models_and_losses_that_do_not_fit(refused, folder, tmp_path):
    ewt, out = folder / "ewt.conllu", ["--out", tmp_path / "m"]
    error = refused("train", ewt, *out, "--column", "pos")
    assert error.startswith(f"error: {ewt}:1: there is no column 'pos' for --column") and "upos" in error
    assert "there is no column '11'" in refused("train", ewt, *out, "--column", "11")
    assert "an empty name among 'upos,'" in refused("train", ewt, *out, "--column", "upos,")
    assert "two purposes" in refused("train", ewt, *out, "--column", "form")
    assert "'svm' does not do tagging; those that do are majority, averaged-perceptron" in refused("train", ewt, *out, "--model", "svm")
    assert refused("train", ewt, *out, "--model", "char-bilstm-crv").startswith("error: --model: there is no 'char-bilstm-crv'")
    assert "--loss: a tagger's loss is its model's" in refused("train", ewt, *out, "--loss", "hinge")
    assert "is no tag of spans" in refused("train", ewt, *out, "--task", "spans", "--column", "upos")
    assert refused("train", ewt, *out, "--set", "scheme=BILOU").startswith("error: scheme: there is no 'BILOU'")
    assert refused("train", ewt, *out, "--column", "upos,xpos", "--set", "levels=pos:1").startswith("error: levels: no column 'pos'")
    assert "no such setting" in refused("compare", ewt, *out, "--models", "bilstm", "--set", "bilstm.pooling=max")
    assert "there is no model 'bag'" in refused("compare", ewt, *out, "--set", "bag.dropout=0.1")
    error = refused("train", ewt, *out, "--task", "classification", "--column", "upos")
    assert "--column: a column of tags, one a token, does not go with --task classification" in error
    missing = refused("train", ewt, *out, "--valid", tmp_path / "none.conllu")
    assert missing == f"error: {tmp_path / 'none.conllu'}: there is no such file"
    assert not (tmp_path / "m").exists() or not any((tmp_path / "m").iterdir())


def test_what_is_repaired_is_said_with_its_number(weft_, tmp_path):
    odd = GOOD.rstrip("\n") + "\n\nAnn I-PER\nsaw O\n\n\n\nBob I-LOC"  # no line end, three blank lines, two illegal tags
    done = weft_("train", write(tmp_path / "odd.conll", odd), "--out", tmp_path / "m", "--model", "majority")
    assert done.code == 0, done.err
    assert "warning: " in done.err and "2 illegal tags by the rules of BIO (the first: I-PER in line" in done.err
    table = conll.read_tagged(tmp_path / "odd.conll", aloud=False)
    assert table.examples[-1].label == ("B-LOC",)


def test_labels_that_training_never_saw_are_said_with_their_number(weft_, folder, tmp_path):
    other = write(tmp_path / "o.conll", "Ann B-PER\nIBM B-ORG\nInc I-ORG\n\n")
    done = weft_("evaluate", folder / "ner", other, "--json", *EXACT)
    assert done.code == 0 and "warning: 2 tokens have a tag that training never saw (B-ORG, E-ORG" in done.err
    assert strict(done.out)["metrics"]["span_recall"] <= 0.5
    valid = ["--valid", other, "--out", tmp_path / "m", "--steps", 3, *EXACT, "--set", *SMALL]
    done = weft_("train", folder / "people.conll", *valid)
    assert done.code == 0 and "left out of the choice of weights" in done.err


def test_a_sentence_of_twenty_thousand_tokens_is_read_in_pieces_and_said(weft_, folder, tmp_path):
    long = write(tmp_path / "long.conll", "".join("Ann B-PER\nLee I-PER\nsaw O\n" for _ in range(6700)) + "\n" + people(20))
    done = weft_("train", long, "--valid", folder / "people.conll", "--out", tmp_path / "m", "--steps", 2, *EXACT, "--set", *SMALL)
    assert done.code == 0, done.err
    assert "no blank line in 20,100 tokens from line 1 on; is this one sentence?" in done.err
    assert "1 of 21 sentences are longer than maximum_length=512 words and are read in pieces" in done.err
    answered = weft_("predict", folder / "ner", long, *EXACT)
    assert len(strict(answered.lines[0])["tags"]) == 20_100 and "are read in pieces" in answered.err


def test_a_tagger_and_a_file_of_another_kind(refused, weft_, folder, tmp_path):
    rows = write(tmp_path / "rows.csv", "text,label\nAnn saw Rome,x\nBob,y\n")
    error = refused("evaluate", folder / "ner", rows)
    assert str(rows) in error
    done = weft_("predict", folder / "ner", rows, *EXACT)
    assert done.code == 0 and [strict(line)["tokens"] for line in done.lines] == [["Ann", "saw", "Rome"], ["Bob"]]
    config = json.loads((folder / "ner" / "config.json").read_text())
    for change, said in (({"task": "regression"}, "config.json"), ({"engine": {}}, "config.json"), ({"fitted": {}}, "config.json")):
        broken = tmp_path / said
        for name in ("model.safetensors", "tokenizer.json", "metrics.json", "README.md"):
            write(broken / name if broken.is_dir() else (broken.mkdir(), broken / name)[1], (folder / "ner" / name).read_bytes())
        write(broken / "config.json", json.dumps({**config, **change}))
        assert said in refused("predict", broken, rows)
