"""Readers held against the csv and json modules, against files written by hand, and against bytes at random."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import os
from functools import partial

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from refusals import refusal

from weft.data.columns import has_header
from weft.data.examples import check_trainable
from weft.data.readers import mend, read, read_like
from weft.errors import InputError, MissingExtra

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# anything that UTF-8 can carry, but NUL, which the readers refuse
anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


fails = partial(refusal, read)


GRAINS = [b"text", b"label", b",", b"\t", b"\n", b"\r", b'"', b"{", b"}", b"[", b"]", b":", b'"text"', b'"label"', b"1", b"0.5", b"-"]
GRAINS += [b"\0", b"\xff", b"\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"\\ud800", b"__label__a ", b"good film", b"|", b";", b"null", b"1e999"]


# round trips against the standard library


@QUICK
@given(st.lists(st.tuples(anything, st.sampled_from(["yes", "no", "a, b"])), min_size=1, max_size=12), st.sampled_from(["\r\n", "\n"]))
def test_csv_gives_back_what_the_csv_module_wrote(tmp_path, rows, end):
    path = tmp_path / "a.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        # the module leaves a lone "\r" bare where it does not end its lines, and cannot read that back itself
        writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL)
        writer.writerow(["text", "label"])
        writer.writerows(rows)
    table = read(path, task="classification")
    assert table.texts == [text for text, _ in rows]
    assert table.labels == [label for _, label in rows]


@QUICK
@given(st.lists(st.tuples(anything.filter(lambda text: not set(text) & set("\t\n\r")), st.sampled_from("ab")), min_size=1, max_size=12))
def test_tsv_cells_are_what_lies_between_tabs(tmp_path, rows):
    path = tmp_path / "a.tsv"
    path.write_bytes("".join(f"{label}\t{text}\n" for text, label in [("text", "label"), *rows]).encode())
    table = read(path)
    assert table.texts == [text for text, _ in rows]
    assert table.labels == [label for _, label in rows]


@QUICK
@given(st.lists(st.tuples(st.text(max_size=20), st.sampled_from(["x", "y"])), min_size=1, max_size=12), st.booleans())
def test_jsonl_gives_back_what_the_json_module_wrote(tmp_path, rows, escaped):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=escaped) for text, label in rows]
    path.write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass" if escaped else "replace"))
    table = read(path)
    # the oracle: what json reads, with a lone surrogate swapped by hand
    expected = ["".join("\ufffd" if 0xD800 <= ord(c) < 0xE000 else c for c in json.loads(line)["text"]) for line in lines]
    expected = [text.replace("\ufffd", "?") for text in expected] if not escaped else expected
    assert [text if escaped else text.replace("\ufffd", "?") for text in table.texts] == expected
    assert table.labels == [label for _, label in rows]


@QUICK
@given(st.text(st.characters(), max_size=30))
@example("\ud83d\ude00 \ud83d")
def test_mend_changes_lone_surrogates_alone(text):
    units = list(text.encode("utf-16-le", "surrogatepass"))
    codes = [low + 256 * high for low, high in zip(units[::2], units[1::2], strict=True)]
    expected, place = [], 0
    while place < len(codes):
        code = codes[place]
        if 0xD800 <= code < 0xDC00 and place + 1 < len(codes) and 0xDC00 <= codes[place + 1] < 0xE000:
            expected.append(chr(0x10000 + (code - 0xD800 << 10) + codes[place + 1] - 0xDC00))
            place += 2
            continue
        expected.append("\ufffd" if 0xD800 <= code < 0xE000 else chr(code))
        place += 1
    if any(0xD800 <= ord(c) < 0xE000 for c in text):
        assert mend(text) == "".join(expected)
    else:
        assert mend(text) == text


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bytes_at_random_are_read_or_refused_by_an_input_error(tmp_path, name, data):
    grain = st.sampled_from(GRAINS)
    body = data.draw(st.one_of(st.binary(max_size=80), st.lists(grain, max_size=60).map(b"".join)))
    if data.draw(st.booleans()):
        body = gzip.compress(body)[: data.draw(st.integers(0, 60))] if data.draw(st.booleans()) else gzip.compress(body)
    path = tmp_path / name
    path.write_bytes(body)
    labelled = data.draw(st.sampled_from([True, False, None]))
    task = data.draw(st.sampled_from([None, "classification", "multi-label", "regression"]))
    try:
        table = read(path, labelled=labelled, task=task, aloud=False)
    except InputError as error:
        refused = str(error)
    else:
        refused = None
        assert table.examples
        "".join(table.texts).encode("utf-8")
    assert refused is None or (refused.startswith((str(path), "--task")) and "\n" not in refused)


# formats


def test_quoted_fields_hold_line_ends_and_lines_are_counted_in_the_file(write):
    table = read(write("a.csv", 'text,label\n"one\ntwo, ""three""",x\nfour,y\n'))
    assert table.texts == ['one\ntwo, "three"', "four"]
    assert [example.line for example in table.examples] == [2, 4]


def test_tsv_quotes_are_letters(write):
    assert read(write("a.tsv", 'label\ttext\n1\t" conan " and\n0\t"open\n')).texts == ['" conan " and', '"open']


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_csv_with_another_delimiter(write, delimiter):
    lines = [["text", "label"], ["good, really", "x"], ["bad", "y"]]
    table = read(write("a.csv", "\n".join(map(delimiter.join, lines))))
    assert table.texts == ["good, really", "bad"]


def test_label_lines_single_and_several(write):
    single = read(write("a.txt", "__label__pos a good film\n\n__label__neg a bad one\n"))
    assert (single.labels, single.texts, single.task) == (["pos", "neg"], ["a good film", "a bad one"], "classification")
    several = read(write("b.txt", "__label__b __label__a both\n__label__a only\nnone\n"))
    assert (several.labels, several.texts) == ([("a", "b"), ("a",), ()], ["both", "only", "none"])
    assert several.task == "multi-label"
    last = read(write("c.train", "a good film __label__pos\n__label__neg bad\n"), labelled=None)
    assert last.task == "unlabelled"  # nothing says __label__ at the start: plain lines
    assert read(write("d.txt", "__label__neg bad\na good __label__pos film\n")).texts == ["bad", "a good film"]


def test_plain_lines_are_texts_to_predict_one_for_one(write):
    table = read(write("a.txt", "first, line\n\nthird\u2028still third\r\n"), labelled=False)
    assert table.texts == ["first, line", "", "third\u2028still third"]
    assert table.task == "unlabelled"
    assert any("1 of 3 texts are empty (the first in line 2)" in note for note in table.notes)


def test_a_text_file_with_tabs_is_tsv(write):
    assert read(write("a.txt", "pos\tgood film\nneg\tbad film\npos\tfine\n")).labels == ["pos", "neg", "pos"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
def test_gzip_byte_order_mark_and_line_ends_change_nothing(write, name):
    contents = {
        "a.csv": "label,text\nx,one two\ny,three\nx,four\n",
        "a.tsv": "label\ttext\nx\tone two\ny\tthree\nx\tfour\n",
        "a.jsonl": '{"label": "x", "text": "one two"}\n{"label": "y", "text": "three"}\n{"label": "x", "text": "four"}\n',
        "a.txt": "__label__x one two\n__label__y three\n__label__x four\n",
    }
    body = contents[name].encode()
    for variant in (body, b"\xef\xbb\xbf" + body, body.replace(b"\n", b"\r\n"), body.replace(b"\n", b"\r"), body.rstrip(b"\n")):
        for zipped in (False, True):
            path = write(name + ".gz" * zipped, gzip.compress(variant) if zipped else variant)
            table = read(path)
            assert (table.texts, table.labels) == (["one two", "three", "four"], ["x", "y", "x"])
    assert read(write("zipped.csv", gzip.compress(contents["a.csv"].encode()))).texts == ["one two", "three", "four"]


def test_json_arrays_know_their_lines(write):
    body = '[\n {"text": "a", "label": "x"},\n\n {"text": "b",\n  "label": "y"}\n]\n'
    table = read(write("a.json", body))
    assert [(example.text, example.label, example.line) for example in table.examples] == [("a", "x", 2), ("b", "y", 4)]
    assert read(write("b.json", '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')).labels == ["x", "y"]
    fails(write("c.json", '[{"text": "a"},\n {"text": }]'), ":2", "broken JSON")
    fails(write("d.json", '[{"text": "a"}\n {"text": "b"}]'), ":2", "comma")
    fails(write("e.json", '[{"text": "a"}'), ":1", "broken JSON")
    fails(write("f.json", '[{"text": "a"}, 3]'), ":1", "number", "object")


def test_parquet_and_its_gzip(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    import pyarrow.parquet as parquet

    columns = {"review": ["good film here", "bad", "", None], "stars": [5, 1, 5, 1]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    for name in ("a.parquet", "b.parquet.gz"):
        table = read(tmp_path / name)
        assert table.texts == ["good film here", "bad", "", ""]
        assert table.labels == ["5", "1", "5", "1"]
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "c.parquet").write_bytes(whole[: len(whole) // 2])
    fails(tmp_path / "c.parquet", "", "Parquet")
    lists = {"text": ["a b", "c d"], "tags": [["x", "y"], []]}
    parquet.write_table(pyarrow.table(lists), tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet").labels == [("x", "y"), ()]


def test_parquet_without_pyarrow_names_the_extra(write, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'weft\[data\]'"):
        read(write("a.parquet", b"PAR1 and so on"))


def test_standard_input_and_pipes(write, monkeypatch):
    class Standard:
        buffer = io.BytesIO(b"one text\nanother, with a comma\n")

    monkeypatch.setattr("sys.stdin", Standard)
    assert read("-", labelled=False).texts == ["one text", "another, with a comma"]
    ends = os.pipe()
    os.write(ends[1], b"label\ttext\nx\tgood\ny\tbad\n")
    os.close(ends[1])
    assert read(f"/dev/fd/{ends[0]}").labels == ["x", "y"]
    os.close(ends[0])


# columns


def guess(write, header: str, *rows: str, name: str = "a.csv", **options):
    return read(write(name, "\n".join([header, *rows]) + "\n"), **options)


LONG = "a rather long sentence number {} about something"


@pytest.mark.parametrize(
    ("header", "row", "columns"),
    [
        ("text,label", "{long},{tag}", {"text": "text", "label": "label"}),
        ("id,Review Text,Sentiment", "{n},{long},{tag}", {"text": "Review Text", "label": "Sentiment"}),
        (",text,target", "{n},{long},{tag}", {"text": "text", "label": "target"}),
        ("text,label,source", "{long},{tag},web", {"text": "text", "label": "label"}),
        ("premise,hypothesis,label", "{long},{long} too,{tag}", {"text": "premise", "pair": "hypothesis", "label": "label"}),
        ("id,question1,question2,is_duplicate", "{n},{long},{long} too,{tag}", {"text": "question1", "pair": "question2"}),
        ("gold_label,sentence1,sentence2", "{tag},{long},{long} too", {"text": "sentence1", "pair": "sentence2", "label": "gold_label"}),
        ("tweet_id,airline_sentiment,text", "{n},{tag},{long}", {"text": "text", "label": "airline_sentiment"}),
        ("x,y", "{long},{tag}", {"text": "x", "label": "y"}),
        ("what,kind of thing", "{long},{tag}", {"text": "what", "label": "kind of thing"}),
        ("Class Index,Title,Description", "{class},{long},{long} more", {"label": "Class Index", "text": "Title", "pair": "Description"}),
        ("text,label,label_text", "{long},{class},{tag}", {"text": "text", "label": "label"}),
        ("url,text,label", "http://x.org/{n},{long},{tag}", {"text": "text", "label": "label"}),
        ("reason,text,label", "A Customer Service Issue,{long},{tag}", {"text": "text", "label": "label"}),
        ("date,text,label", "Mon Apr 06 22:19:{n} PDT 2009,{long},{tag}", {"text": "text", "label": "label"}),
        ("target,id,date,flag,user,text", "{class},{n},6 May,none,u{n},{long}", {"text": "text", "label": "target"}),
    ],
)
def test_columns_are_found_by_name_and_content(write, header, row, columns):
    fill = lambda n: {"n": n + 11, "long": LONG.format(n), "tag": ["pos", "neg"][n % 2], "class": n % 2 + 1}  # noqa: E731
    table = guess(write, header, *(row.format(**fill(n)) for n in range(8)))
    assert len(table) == 8  # the header is no example
    assert table.columns.items() >= columns.items()
    assert ("pair" in table.columns) == ("pair" in columns)
    assert any(f"columns: text {columns['text']!r}" in note for note in table.notes)


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ("{class}\t{long}", {"text": "2", "label": "1"}),
        ("{tag}\t{tag}:{fine}\t{long}", {"text": "3", "label": "1"}),
        ("{score}\t{long}\t{long} too", {"text": "2", "pair": "3", "label": "1"}),
        ("{long}\t{tag}", {"text": "1", "label": "2"}),
        ("{n}\t{tag}\t{long}", {"text": "3", "label": "2"}),
    ],
)
def test_files_without_a_header_are_seen(write, row, columns):
    words = [
        {"n": n, "long": LONG.format(n), "tag": "ABC"[n % 3], "fine": "uvwxyz"[n % 6], "class": n % 2, "score": f"{n * 0.37:.2f}"}
        for n in range(12)
    ]
    table = read(write("a.tsv", "".join(row.format(**word) + "\n" for word in words)))
    assert len(table) == 12
    assert table.columns == columns
    assert any("no header" in note for note in table.notes)


@pytest.mark.parametrize(
    ("first", "rest", "expected"),
    [
        (["text"], [["good"], ["bad"]], True),
        (["good film"], [["bad"], ["worse"]], False),
        (["question", "What is it ?"], [["statement", "It is."], ["question", "Who ?"]], False),
        (["sports", "they won"], [["sports", "they lost"], ["news", "it rained"]], False),
        (["0", "text"], [["1", "other"]], False),
        (["amount", "remark"], [["12", "fine"], ["7", "bad"]], True),
        (["", "text", "label"], [["0", "a", "b"]], True),
        (["a", "a"], [["b", "c"]], False),
        (["text", "label"], [], True),
    ],
)
def test_headers(first, rest, expected):
    assert has_header(first, rest) is expected


def test_the_caller_decides_by_name_or_number(write):
    path = write(
        "a.csv", "one,two,three,four\n" + "".join(f"{LONG.format(n)},{LONG.format(n)} b,{'xy'[n % 2]},{n % 3}\n" for n in range(9))
    )
    assert read(path, text_column="two", label_column="four").columns == {"text": "two", "label": "four"}
    assert read(path, text_column="2", label_column=3).columns == {"text": "two", "label": "three"}
    assert read(path, label_column="THREE").columns == {"text": "one", "pair": "two", "label": "three"}
    assert read(path, pair_column="one", label_column="three").columns == {"text": "two", "pair": "one", "label": "three"}
    table = read(path, text_column="one", pair_column="two", label_column="three")
    assert table.pairs == [f"{LONG.format(n)} b" for n in range(9)]
    fails(path, ":1", "'five'", "--label-column", "'one', 'two', 'three' and 'four'", label_column="five")
    fails(path, ":1", "'5'", label_column=5)
    fails(path, ":1", "two purposes", label_column="one", text_column="one")
    fails(write("b.csv", "text,text,label\na,b,c\n"), ":1", "number", text_column="text")
    fails(write("c.txt", "plain\n"), "", "--text-column", "no columns", text_column="text")


def test_what_is_ambiguous_is_said(write, caplog):
    caplog.set_level(logging.INFO, "weft")
    guess(write, "text,category,sentiment", *(f"{LONG.format(n)},{'uvw'[n % 3]},{'xy'[n % 2]}" for n in range(9)))
    assert "'category' is taken for the labels; 'sentiment' could be too: --label-column decides" in caplog.text


def test_no_guess_names_the_columns_and_the_option(write):
    rows = [f"{n},{LONG.format(n)}" for n in range(10, 20)]
    path = write("a.csv", "\n".join(["id,text", *rows]))
    fails(path, ":1", "'id' and 'text'", "--label-column", labelled=True)
    table = read(path)
    assert table.task == "unlabelled"
    with pytest.raises(InputError, match=r"'id' and 'text'.*--label-column"):
        check_trainable(table)
    fails(write("b.csv", "id,label\n1,x\n2,y\n3,x\n"), ":1", "--text-column")


def test_predicting_leaves_labels_out_and_out_of_the_text(write):
    rows = [f"{LONG.format(n)},{'xy'[n % 2]}" for n in range(6)]
    table = guess(write, "text,label", *rows, labelled=False)
    assert (table.task, table.columns, set(table.labels)) == ("unlabelled", {"text": "text"}, {None})
    missing = guess(write, "text,label", *(row.replace(",y", ",") for row in rows), labelled=False)
    assert len(missing) == 6
    assert read(write("b.csv", "text\ngood\nbad\n"), labelled=False).texts == ["good", "bad"]
    assert read(write("c.csv", '"good"\n""\n"bad"\n'), labelled=False).texts == ["good", "", "bad"]
    assert read(write("d.txt", "__label__x good\n"), labelled=False).examples[0].label is None


def test_a_second_file_is_read_like_the_first(write):
    first = guess(write, "text,tags", *(f"{LONG.format(n)},{['a|b', 'a', 'b'][n % 3]}" for n in range(9)))
    assert first.task == "multi-label"
    second = read_like(write("test.csv", "tags,text\nb,some words\n"), first, labelled=True)
    assert (second.labels, second.texts) == ([("b",)], ["some words"])


# labels and tasks


def labels_of(write, *labels: object, **options):
    lines = [json.dumps({"text": LONG.format(n), "label": label}) for n, label in enumerate(labels)]
    return read(write("a.jsonl", "\n".join(lines)), **options)


@pytest.mark.parametrize(
    ("labels", "task", "first"),
    [
        (["x", "y", "x"], "classification", "x"),
        ([1, 0, 1, 1], "classification", "1"),
        ([True, False], "classification", "true"),
        (["1.0", "0.0", "1.0"], "classification", "1.0"),
        ([0.5, 1, 1.5, 2] * 4, "classification", "0.5"),
        ([n / 7 for n in range(1, 30)], "regression", 1 / 7),
        (list(range(100, 130)), "regression", 100.0),
        (list(range(50)) * 25, "classification", "0"),
        ([["b", "a"], [], ["a"]], "multi-label", ("a", "b")),
        (['["b", "a"]', '["a"]'], "multi-label", ("a", "b")),
        (["['b', 'a']", "[]"], "multi-label", ("a", "b")),
        (["b|a", "a", "b|c"], "multi-label", ("a", "b")),
        (["b; a", "a", "b"], "multi-label", ("a", "b")),
        (["b,a", "a", "b", "c"], "multi-label", ("a", "b")),
        (["Sci, Tech", "World", "Sport"], "classification", "Sci, Tech"),
        (["AC/DC|rock", "jazz"], "classification", "AC/DC|rock"),
        (["[UNK]", "a"], "classification", "[UNK]"),
    ],
)
def test_tasks_are_guessed_from_the_labels(write, labels, task, first):
    table = labels_of(write, *labels)
    assert table.task == task
    assert table.labels[0] == first
    assert len(table) == len(labels)


def test_the_caller_decides_the_task(write):
    assert labels_of(write, 1, 2, 1, task="regression").labels == [1.0, 2.0, 1.0]
    assert labels_of(write, "a|b", "a", "b", task="classification").classes == ["a", "a|b", "b"]
    assert labels_of(write, "a,b", "c", task="multi-label").labels == [("a", "b"), ("c",)]
    assert labels_of(write, *(n / 7 for n in range(1, 30)), task="classification").task == "classification"
    path = write("b.jsonl", '{"text": "a b", "label": "1"}\n{"text": "a b", "label": "high"}\n')
    fails(path, ":2", "'high'", "finite number", task="regression")
    fails(write("c.jsonl", '{"text": "a", "label": ["x", "y"]}\n'), ":1", "multi-label", task="classification")
    fails(write("d.jsonl", '{"text": "a", "label": "1e999"}\n'), ":1", "finite", task="regression")
    with pytest.raises(InputError, match=r"--task: .*'tagging'.*classification, multi-label, regression"):
        read(path, task="tagging")


def test_missing_labels_name_the_first_and_count(write):
    fails(write("a.csv", "text,label\na b,x\nc d,\ne f,y\ng h, \n"), ":3", "1 more of 4")
    fails(write("b.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"}\n'), ":2", "label")
    fails(write("c.jsonl", '{"text": "a", "label": null}\n{"text": "b", "label": NaN}\n'), ":1", "missing", labelled=True)


def test_trainable_or_not(write):
    check_trainable(labels_of(write, "x", "y"))
    check_trainable(labels_of(write, 0.25, 0.75, task="regression"))
    for options, labels, word in (
        ({}, ("x", "x", "x"), "every one of the 3 examples has the label 'x'"),
        ({"task": "regression"}, (1, 1), "nothing to learn"),
        ({"task": "multi-label"}, ("a", "a"), "at least two"),
    ):
        with pytest.raises(InputError, match=word):
            check_trainable(labels_of(write, *labels, **options))


# bad input


@pytest.mark.parametrize(
    ("name", "content", "place", "words"),
    [
        ("a.csv", "", "", ["empty"]),
        ("a.csv", "\ufeff \n\n", "", ["empty"]),
        ("a.csv", "text,label\n", ":1", ["header", "nothing below"]),
        ("a.csv", "text,label\na,b\nc\n", ":3", ["1 cell ", "2", "double quotes"]),
        ("a.csv", "text,label\na,b\nc,d,e\n", ":3", ["3 cells"]),
        ("a.tsv", "text\tlabel\na\tb\nc\td\te\n", ":3", ["3 cells", "tab"]),
        ("a.csv", 'text,label\na,b\n"open,c\nd,e\n', ":3", ["never ends", "twice"]),
        ("a.csv", 'text,label\n"said "no"",b\n', ":2", ["quot", "twice"]),
        ("a.csv", "text,label\nfine,x\nbro\0ken,y\n", ":3", ["NUL", "character 4"]),
        ("a.csv", b"text,label\nna\xefve,x\n", ":2", ["0xef", "byte 3", "UTF-8"]),
        ("a.csv", b"text,label\ncaf\xe9", ":2", ["0xe9", "byte 4"]),
        ("a.csv", b"\rtext,label\rna\xefve,x\r", ":3", ["0xef", "byte 3"]),
        ("a.tsv", b"text\tlabel\n" + b"ok\tx\n" * 9000 + b"na\xefve\tx\n", ":9002", ["0xef"]),
        ("a.jsonl", b'{"text": "\xed\xa0\x80"}\n', ":1", ["0xed"]),
        ("a.csv", "text,label\na,b\n".encode("utf-16"), ":1", ["UTF-16", "UTF-8"]),
        ("a.csv", "text,label\na,b\n".encode("utf-16-le"), ":1", ["UTF-16LE", "UTF-8"]),
        ("a.csv", "text,label\na,b\n".encode("utf-16-be"), ":1", ["UTF-16BE", "UTF-8"]),
        ("a.csv", "text,label\na,b\n".encode("utf-32"), ":1", ["UTF-32"]),
        ("a.jsonl", '{"text": "a", "label": "b"}\n{"text": "a", \n', ":2", ["broken JSON", "object"]),
        ("a.jsonl", '{"text": "a"}\n["a", "b"]\n', ":2", ["list", "object"]),
        ("a.jsonl", '{"text": "a"}\n' + "[" * 100_000 + "\n", ":2", ["JSON"]),
        ("a.jsonl", '{"text": ' + "1" * 5000 + "}\n", ":1", ["JSON"]),
        ("a.jsonl", '{"text": {"a": 1}, "label": 1}\n', ":1", ["dict", "string"]),
        ("a.jsonl", "{}\n{}\n", "", ["empty"]),
        ("a.csv.gz", b"text,label\n", "", ["no gzip"]),
        ("a.parquet", b"PAR1 nothing of the kind", "", ["Parquet"]),
        ("a.txt", "no labels here\n", ":1", ["__label__"]),
    ],
)
def test_bad_files(write, name, content, place, words):
    fails(write(name, content), place, *words, labelled=True)


def test_no_file_and_folders(tmp_path):
    fails(tmp_path / "nowhere.csv", "", "no such file")
    fails(tmp_path, "", "folder")
    fails("/dev/zero", "", "device")
    with pytest.raises(InputError):
        read("a\0b.csv")


def test_gzip_cut_off_names_the_line_it_got_to(write):
    rows = "".join(f"{os.urandom(30).hex()},{'xy'[n % 2]}\n" for n in range(20_000))
    whole = gzip.compress(("text,label\n" + rows).encode())
    path = write("a.csv.gz", whole[: len(whole) // 2])
    with pytest.raises(InputError) as caught:
        read(path)
    line = int(str(caught.value).removeprefix(f"{path}:").split(":")[0])
    assert 5_000 < line < 15_000
    assert "cut off" in str(caught.value)
    fails(write("b.csv.gz", whole[:15]), ":1", "cut off")
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    with pytest.raises(InputError):
        read(write("c.csv.gz", bytes(damaged)))


def test_a_line_of_ten_megabytes(write):
    text = "wörd " * 2_000_000
    limit = 131_072
    csv.field_size_limit(limit)
    for name, content in (
        ("a.csv", f'text,label\n"{text}",x\nshort,y\n'),
        ("a.tsv", f"text\tlabel\n{text}\tx\nshort\ty\n"),
        ("a.jsonl", json.dumps({"text": text, "label": "x"}) + '\n{"text": "short", "label": "y"}\n'),
        ("a.txt", f"__label__x {text}\n__label__y short\n"),
    ):
        table = read(write(name, content))
        assert table.texts[0].strip() == text.strip()
        assert table.labels == ["x", "y"]
    assert csv.field_size_limit() == limit


def test_what_is_kept_repaired_and_passed_over_is_said_with_a_count(write, caplog):
    caplog.set_level(logging.WARNING, "weft")
    table = read(
        write("a.jsonl", '{"text": "a \\ud800 b", "label": "x"}\n{"text": " ", "label": "y"}\n{"text": "\\ud83d\\ude00", "label": "x"}\n')
    )
    assert table.texts == ["a \ufffd b", " ", "\U0001f600"]
    assert "lone surrogates in 1 text" in caplog.text
    assert "1 of 3 texts are empty (the first in line 2): kept" in caplog.text
    read(write("b.csv", "text,label\na b,x\n\nc d,y\n,\n"))
    assert "2 blank rows passed over" in caplog.text
