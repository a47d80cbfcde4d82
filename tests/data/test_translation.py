"""Sources and targets: which columns they are, what is refused and where, and how they are split."""

from __future__ import annotations

import gzip
import json
import random
from functools import partial

import pytest
from refusals import refusal

from weft.data.examples import Example, Table, check_trainable, one_target_each, split_table
from weft.data.opening import open_as_trained, open_splits
from weft.data.readers import read, read_like
from weft.errors import InputError

translate = partial(read, task="translate", labelled=True)
fails = partial(refusal, translate)
PAIRS = [("A dog runs.", "Ein Hund rennt."), ("Two men sit on a bench.", "Zwei Männer sitzen auf einer Bank."), ("Yes", "Ja"), ("A", "B")]


def written(folder, name, rows, *, header=None):
    path = folder / name
    lines = ["\t".join(row) for row in ([header] if header else []) + list(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def pairs_of(table: Table):
    return list(zip(table.texts, table.labels, strict=True))


@pytest.mark.parametrize("name", ["a.tsv", "a.txt"])
@pytest.mark.parametrize("header", [None, ("source", "target"), ("Source", "Target"), ("en", "de"), ("English", "German")])
def test_two_columns_in_their_order(tmp_path, name, header):
    table = translate(
        written(tmp_path, name, [(f"{s} The cat number {n} ran", f"{t} {n}") for n, (s, t) in enumerate(PAIRS)], header=header)
    )
    assert table.texts == [f"{s} The cat number {n} ran" for n, (s, _) in enumerate(PAIRS)]
    assert table.labels == [f"{t} {n}" for n, (_, t) in enumerate(PAIRS)]
    assert table.task == "translation" and table.classes == [] and table.pairs is None
    assert list(table.columns.values()) == (list(header) if header else ["1", "2"])
    assert table.examples[0].line == (2 if header else 1)


def test_a_first_row_of_data_is_no_header(tmp_path):
    """Neither two words among short ones, nor a row that later rows repeat; to predict, nothing but a known name is one."""
    words = [("dog", "Hund"), ("cat", "Katze"), ("tree", "Baum"), ("house", "Haus")]
    assert pairs_of(translate(written(tmp_path, "words.tsv", words))) == words
    sounds = [("a", "AH"), ("aaron", "EH R AH N"), ("about", "AH B AW T"), ("abbey", "AE B IY N D")]
    assert pairs_of(translate(written(tmp_path, "sounds.tsv", sounds))) == sounds
    questions = written(tmp_path, "questions.csv", [("Hello",), ("Where is the station then",), ("How are you this morning",)])
    assert read(questions, task="translate", labelled=False).texts[0] == "Hello"


def test_columns_by_name_by_number_and_by_what_they_are_called(tmp_path):
    rows = [(str(n), t, s, "web page") for n, (s, t) in enumerate(PAIRS)]
    named = written(tmp_path, "named.tsv", rows, header=("id", "target", "source", "note"))
    assert pairs_of(translate(named)) == PAIRS
    assert pairs_of(translate(named, text_column="target", label_column="SOURCE")) == [(t, s) for s, t in PAIRS]
    assert pairs_of(translate(named, text_column=2, label_column=3)) == [(t, s) for s, t in PAIRS]
    two = written(tmp_path, "two.tsv", [(t, s) for s, t in PAIRS], header=("target", "source"))
    assert pairs_of(translate(two)) == PAIRS
    assert pairs_of(translate(two, text_column="target")) == [(t, s) for s, t in PAIRS]
    assert pairs_of(translate(two, label_column="source")) == [(t, s) for s, t in PAIRS]


def test_the_task_is_guessed_from_the_names_alone(tmp_path, caplog):
    caplog.set_level("INFO", "weft")
    table = read(written(tmp_path, "a.tsv", PAIRS, header=("source", "target")))
    assert table.task == "translation" and pairs_of(table) == PAIRS
    assert "--task decides otherwise" in caplog.text
    classes = [(f"a film number {n} to see", "web", "yes" if n % 2 else "no") for n in range(12)]
    assert read(written(tmp_path, "b.tsv", classes, header=("text", "source", "target"))).task == "classification"
    assert read(written(tmp_path, "c.tsv", [row[1:] for row in classes], header=("source", "target"))).task == "classification"
    numbers = [(f"a film number {n} to see", f"{n / 7:.3f}") for n in range(12)]
    assert read(written(tmp_path, "d.tsv", numbers, header=("source", "target"))).task == "regression"
    assert (
        read(written(tmp_path, "e.tsv", PAIRS, header=("source", "target")), label_column="target", task="classification").labels[2] == "Ja"
    )


def test_json_may_give_several_targets_and_texts_stay_as_they_are(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        {"source": " read ", "target": ["R IY D", "R EH D", "R IY D"]},
        {"source": "[a, b]", "target": "[c, d]"},
        {"source": 12, "target": ["x"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = translate(path)
    assert pairs_of(table) == [(" read ", ("R IY D", "R EH D")), ("[a, b]", "[c, d]"), ("12", "x")]
    assert [(e.text, e.label, e.line) for e in one_target_each(table).examples][:3] == [
        (" read ", "R IY D", 1), (" read ", "R EH D", 1), ("[a, b]", "[c, d]", 2),
    ]  # fmt: skip


def test_files_beside_the_training_file_and_files_to_predict(tmp_path):
    train = translate(written(tmp_path, "train.tsv", PAIRS, header=("en", "de")), text_column="en", label_column="de")
    dev = read_like(written(tmp_path, "dev.tsv", PAIRS[:2], header=("en", "de")), train, labelled=True)
    assert dev.task == "translation" and pairs_of(dev) == PAIRS[:2]
    bare = tmp_path / "bare.tsv.gz"
    bare.write_bytes(gzip.compress("".join(f"{s}\t{t}\n" for s, t in PAIRS).encode()))
    first = translate(bare)
    assert pairs_of(read_like(bare, first, labelled=True)) == PAIRS
    lines = tmp_path / "lines.txt"
    lines.write_text("A dog.\n\n__label__x\n")
    found = open_as_trained(str(lines), first.columns, task="translation")
    assert (found.texts, found.task) == (["A dog.", "", "__label__x"], "unlabelled")  # as many answers as lines
    lines.write_text("__label__x\nA dog.\n")
    assert open_as_trained(str(lines), first.columns, task="translation").texts == ["__label__x", "A dog."]
    assert open_as_trained(str(tmp_path / "dev.tsv"), train.columns, task="translation").texts == [s for s, _ in PAIRS[:2]]


def test_what_is_refused_and_where(tmp_path):
    write = partial(written, tmp_path)
    fails(
        write("a.tsv", [*PAIRS[:2], ("A cat", " "), ("x y", ""), *PAIRS]),
        ":3",
        "the target is empty here, and in 1 more of 8 rows",
        "fill it",
    )
    fails(write("b.tsv", [*PAIRS, ("", "Katze")], header=("source", "target")), ":6", "the source is empty;")
    fails(write("c.tsv", [*PAIRS, ("one",)]), ":5", "1 cell where the first row has 2")
    fails(write("d.tsv", [*PAIRS, ("a", "b", "c")]), ":5", "3 cells where the first row has 2")
    fails(write("e.csv", [(s,) for s, _ in PAIRS], header=("source",)), ":1", "no column is called 'target'", "'source'", "--label-column")
    fails(
        write("f.tsv", [("1", *pair) for pair in PAIRS], header=("id", "en", "de")), ":1", "no column is called 'source'", "--text-column"
    )
    fails(write("g.tsv", PAIRS), ":1", "no column 'en' for --text-column", text_column="en")
    fails(write("h.tsv", PAIRS), ":1", "named for two purposes", text_column=1, label_column=1)
    fails(write("i.txt", [("one line",), ("another line",)]), ":1", "the lines have no targets", "a tab")
    fails(write("j.txt", [("__label__x one line",)]), ":1", "the lines have no targets")
    with pytest.raises(InputError, match=r"--pair-column: a translation has a source"):
        translate(tmp_path / "a.tsv", pair_column=2)
    path = tmp_path / "k.jsonl"
    for target, words in (({"a": 1}, "a string was expected"), ([], "empty"), (["a", ""], "empty"), (None, "empty")):
        path.write_text(json.dumps({"source": "a", "target": "b"}) + "\n" + json.dumps({"source": "a", "target": target}) + "\n")
        fails(path, ":2", "the target is", words)
    with pytest.raises(InputError, match="one of classification, multi-label, regression, translate"):
        read(tmp_path / "a.tsv", task="translating")


def test_nothing_to_learn():
    check_trainable(Table([Example("a", "b"), Example("b", "c")], "translation", "here"))
    with pytest.raises(InputError, match=r"here: every one of the 2 examples has the target 'b'"):
        check_trainable(Table([Example("a", "b"), Example("c", "b")], "translation", "here"))
    with pytest.raises(InputError, match="no examples"):
        check_trainable(Table([], "translation", "here"))


def test_equal_sources_stay_on_one_side_whatever_their_targets():
    draw = random.Random(0)
    examples = [Example(f"Source  {draw.randrange(200)}", f"target {n}", None, n + 1) for n in range(600)]
    splits = split_table(Table(examples, "translation", "here"), dev=0.1, test=0.1, seed=3)
    sides = [splits.train, splits.dev, splits.test]
    keys = [{" ".join(text.casefold().split()) for text in side.texts} for side in sides]
    assert sum(map(len, keys)) == len(set.union(*keys))
    assert sorted(e.line for side in sides for e in side.examples) == list(range(1, 601))
    assert [len(side) for side in sides[1:]] == [60, 60]  # one stratum: to the example, as many as were asked for


def test_the_note_of_a_split(tmp_path):
    path = written(tmp_path, "a.tsv", [(f"source {n}", f"target {n}") for n in range(30)], header=("source", "target"))
    splits, note = open_splits(str(path), task="translate")
    assert "by source" in note and len(splits.train) == 24
    assert splits.train.task == splits.dev.task == "translation"
