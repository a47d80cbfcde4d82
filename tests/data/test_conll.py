"""Tagged files: written by hand and at random, the published ones by their counts, every odd input by its line."""

from __future__ import annotations

import gzip
import logging
from collections import Counter
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refusal

from weft.data import datasets
from weft.data.conll import is_tagged, read_tagged, read_tagged_like
from weft.data.examples import check_trainable, split_table
from weft.data.opening import open_as_trained, open_labelled, open_splits
from weft.errors import InputError

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NER = "EU\tB-ORG\nrejects\tO\nGerman\tB-MISC\ncall\tO\n\nPeter\tB-PER\nBlackburn\tI-PER\n\n"
CONLLU = """\
# sent_id = 1
# text = I'll go
1-2\tI'll\t_\t_\t_\t_\t_\t_\t_\t_
1\tI\tI\tPRON\tPRP\tCase=Nom|Number=Sing\t3\tnsubj\t_\t_
2\t'll\twill\tAUX\tMD\tVerbForm=Fin\t3\taux\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
3.1\tgone\tgo\tVERB\tVB\t_\t_\t_\t_\t_

# sent_id = 2
1\t#\t#\tSYM\tNN\t_\t0\troot\t_\t_
2\t_\t_\tPUNCT\t.\t_\t1\tpunct\t_\t_

"""


fails = partial(refusal, read_tagged)


def tokens_of(table) -> list[tuple[str, ...]]:
    return [example.tokens for example in table.examples]


# what comes out


def test_columns_between_tabs(write):
    table = read_tagged(write("a.conll", NER))
    assert table.task == "spans"
    assert tokens_of(table) == [("EU", "rejects", "German", "call"), ("Peter", "Blackburn")]
    assert table.labels == [("B-ORG", "O", "B-MISC", "O"), ("B-PER", "I-PER")]
    assert table.texts == ["EU rejects German call", "Peter Blackburn"]
    assert [example.line for example in table.examples] == [1, 6]
    assert (table.columns, table.fields, table.others) == ({"text": "1", "label": "2"}, ("1", "2"), ())
    assert table.classes == ["B-MISC", "B-ORG", "B-PER", "I-PER", "O"]


def test_columns_between_spaces_as_in_conll_2003(write):
    text = "-DOCSTART- -X- -X- O\n\nEU NNP I-NP I-ORG\nrejects  VBZ I-VP O\n\n-DOCSTART- -X- -X- O\n\n# # B-NP O\nFoo NNP B-NP I-PER\n"
    table = read_tagged(write("a.txt", text))
    assert tokens_of(table) == [("EU", "rejects"), ("#", "Foo")]
    assert table.labels == [("B-ORG", "O"), ("O", "B-PER")]  # IOB1, read as BIO
    assert any("2 -DOCSTART- lines" in note for note in table.notes)
    several = read_tagged(write("a.txt", text), column="4,2")
    assert several.others == ("2",)
    assert several.examples[0].others == (("NNP", "VBZ"),)
    assert read_tagged(write("a.txt", text), column=2).task == "tagging"


def test_conllu(write):
    table = read_tagged(write("a.conllu", CONLLU))
    assert tokens_of(table) == [("I", "'ll", "go"), ("#", "_")]
    assert table.labels == [("PRON", "AUX", "VERB"), ("SYM", "PUNCT")]
    assert (table.task, table.columns) == ("tagging", {"text": "form", "label": "upos"})
    assert [example.line for example in table.examples] == [4, 10]
    assert any("3 comment lines, 1 multiword range, 1 empty node" in note for note in table.notes)
    several = read_tagged(write("a.conllu", CONLLU), column=["UPOS", 5, "feats", "deprel"])
    assert several.others == ("xpos", "feats", "deprel")
    assert several.examples[0].others == (("PRP", "MD", "VB"), ("Case=Nom|Number=Sing", "VerbForm=Fin", "_"), ("nsubj", "aux", "root"))
    assert read_tagged(write("b.txt", CONLLU)).labels == table.labels  # known by its content too
    zipped = write("a.conllu.gz", gzip.compress(CONLLU.encode()))
    assert read_tagged(zipped).examples == table.examples
    assert read_tagged(write("a.conllu", CONLLU), column="lemma", text_column="form").columns["label"] == "lemma"


def test_conllu_plus_has_names_of_its_own(write):
    text = "# global.columns = ID FORM UPOS NER\n1\tAnn\tPROPN\tB-PER\n2\tsleeps\tVERB\tO\n"
    table = read_tagged(write("a.conllup", text), column="ner")
    assert (table.task, table.columns, tokens_of(table)) == ("spans", {"text": "FORM", "label": "NER"}, [("Ann", "sleeps")])
    assert read_tagged(write("a.conllup", text)).columns["label"] == "UPOS"


def test_a_row_of_names_is_a_header_and_numbered_words_are_second(write):
    table = read_tagged(write("a.tsv", "token\tpos\tner\nAnn\tNNP\tB-PER\n\nsleeps\tVBZ\tO\n"), column="pos")
    assert (table.columns, table.labels) == ({"text": "token", "label": "pos"}, [("NNP",), ("VBZ",)])
    own = write("b.tsv", "w\tmytags\nAnn\tX\n")
    assert read_tagged(own, column="MyTags").labels == [("X",)]
    assert len(read_tagged(own).examples[0].tokens) == 2  # names that nobody asks for are taken for tokens
    numbered = "1 The DT\n2 dog NN\n\n1 A DT\n2 cat NN\n3 sat VB\n"
    assert tokens_of(read_tagged(write("c.conll", numbered))) == [("The", "dog"), ("A", "cat", "sat")]
    assert read_tagged(write("c.conll", numbered), text_column=3, column=2).labels == [("The", "dog"), ("A", "cat", "sat")]


def test_words_alone(write):
    table = read_tagged(write("a.conll", "Ann\nsleeps\n\n#\nfoo\n"), labelled=False)
    assert (table.task, tokens_of(table), table.labels) == ("unlabelled", [("Ann", "sleeps"), ("#", "foo")], [None, None])
    assert read_tagged(write("a.conll", "Ann\nsleeps\n")).task == "unlabelled"
    assert read_tagged(write("b.conll", NER), labelled=False).labels == [None, None]
    fails(write("c.conll", "Ann\nsleeps\n"), ":1", "one column", labelled=True)


def test_comments_are_no_tokens_and_tokens_no_comments(write):
    tabs = write("a.conll", "# a comment\n#\tO\n#foo\tO\n# another\n\nb\tO\n")
    assert tokens_of(read_tagged(tabs)) == [("#", "#foo"), ("b",)]
    spaces = write("b.conll", "# sent_id = 12\n# text = so\n# SYM x y\nfoo NN x y\n# a comment of six words here\nbar NN x y\n# = x y\n")
    assert tokens_of(read_tagged(spaces)) == [("#", "foo", "bar", "#")]
    assert any("3 comment lines" in note for note in read_tagged(spaces).notes)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "x", "xx", "xxxx"])
def test_line_ends_and_what_the_file_ends_with_change_nothing(write, end, last):
    text = "\ufeff" + NER.strip().replace("\n", end) + last.replace("x", end)
    table = read_tagged(write("a.conll", text))
    assert table.labels == [("B-ORG", "O", "B-MISC", "O"), ("B-PER", "I-PER")]
    blank = [note for note in table.notes if "blank" in note]
    assert len(blank) == (len(last) > 2)


word = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=6).filter(
    lambda text: not text.startswith(("-DOCSTART-", "\ufeff"))
)


@QUICK
@given(
    st.lists(st.lists(st.tuples(word, st.sampled_from(["NN", "VB", ".", "#"])), min_size=1, max_size=5), min_size=1, max_size=6),
    st.sampled_from(["\t", " "]),
)
def test_what_is_written_is_read(tmp_path, sentences, separator):
    path = tmp_path / "a.conll"
    path.write_bytes("\n".join("".join(f"{token}{separator}x{separator}{tag}\n" for token, tag in rows) for rows in sentences).encode())
    if all(token.startswith("#") for rows in sentences for token, _ in rows) and separator == " ":
        return  # nothing tells such a file from one of comments
    table = read_tagged(path, text_column=1, aloud=False)
    assert tokens_of(table) == [tuple(token for token, _ in rows) for rows in sentences]
    assert table.labels == [tuple(tag for _, tag in rows) for rows in sentences]


GRAINS = [
    b"EU",
    b"O",
    b"B-X",
    b"I-X",
    b"\t",
    b" ",
    b"\n",
    b"\n\n",
    b"\r",
    b"#",
    b"# a = b",
    b"1",
    b"1-2",
    b"_",
    b"-DOCSTART-",
    b"E-X",
    b"\0",
]
GRAINS += [b"\xff", b"\xef\xbb\xbf", b"\x1f\x8b", b"# global.columns = ID FORM UPOS", b"form", b"upos", b"\xc2\xa0", b"=", b"S", b"1.1"]


@QUICK
@given(st.lists(st.sampled_from(GRAINS), max_size=40), st.sampled_from(["a.conll", "a.conllu", "a.tsv", "a.gz"]), st.booleans())
def test_any_bytes_give_a_table_or_one_line(tmp_path, grains, name, labelled):
    path = tmp_path / name
    path.write_bytes(b"".join(grains))
    is_tagged(path)
    table, message = None, ""
    try:
        table = read_tagged(path, labelled=labelled, aloud=False)
    except InputError as error:
        message = str(error)
    assert table is not None or message.startswith(str(path))
    for example in table.examples if table else ():
        assert example.tokens and all(example.tokens)
        assert example.label is None or len(example.label) == len(example.tokens)


# spans


def test_schemes_come_out_as_bio(write, caplog):
    caplog.set_level(logging.INFO, "weft")
    iob1 = read_tagged(write("a.conll", "a I-X\nb I-X\nc B-X\n\nd O\ne I-Y\n"))
    assert iob1.labels == [("B-X", "I-X", "B-X"), ("O", "B-Y")]
    assert "the tags are spans in IOB1, read as BIO: 3 spans of 2 types" in caplog.text
    bioes = read_tagged(write("b.conll", "a B-X\nb E-X\nc S-Y\n\nd O\n"))
    assert bioes.labels == [("B-X", "I-X", "B-Y"), ("O",)]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_illegal_tags_are_repaired_aloud(write, caplog):
    path = write("a.conll", "a O\nb I-X\nc I-X\n\nd B-X\ne I-Y\n")
    table = read_tagged(path)
    assert table.labels == [("O", "B-X", "I-X"), ("B-X", "B-Y")]
    [warning] = caplog.records
    assert warning.getMessage().startswith(f"{path}: 2 illegal tags by the rules of BIO (the first: I-X in line 2)")
    plain = read_tagged(path, task="tag")
    assert (plain.task, plain.labels) == ("tagging", [("O", "I-X", "I-X"), ("B-X", "I-Y")])
    assert any("--task spans" in note for note in plain.notes)


def test_what_is_no_span_is_refused_as_one(write):
    fails(write("a.conll", "a B-X\nb NN\n"), ":2", "'NN'", "--task tagging", task="spans")
    with pytest.raises(InputError, match=r"--task: .*'classification'.*tagging, spans"):
        read_tagged(write("a.conll", NER), task="classification")


# odd input


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ("a\tO\nb\tX\tO\nc\tO\n", ":2", ("3 cells", "has 2", "tabs")),
        ("a\tO\nb\nc\tO\n", ":2", ("1 cell where", "has 2")),
        ("a\tO\nb O\nc\tO\n", ":2", ("1 cell", "tabs", "spaces only")),
        ("a x O\nb O\nc x O\n", ":2", ("2 cells", "has 3", "spaces")),
        ("a\tb\tO\nb\tO\nc\tO\n", ":1", ("3 cells", "has 2")),  # the first line may be the odd one
        ("a\tO\nb\t\nc\tO\n", ":2", ("tag is empty", "'2'")),
        ("a\tO\n \tO\nc\tO\n", ":2", ("word is empty", "'1'")),
        ("a\tO\n\tO\nc\tO\n", ":2", ("word is empty",)),
        ("# a comment\n# another\n\n", "", ("only comments",)),
        ("-DOCSTART- O\n\n-DOCSTART- O\n", "", ("only blank lines",)),
        ("a\tO\nb\t\0\n", ":2", ("NUL",)),
        (b"a\tO\nb\xff\tO\n", ":2", ("0xff", "UTF-8")),
        ("a\tO\n".encode("utf-16"), ":1", ("UTF-16",)),
        ("\n\n", "", ("empty",)),
    ],
)
def test_what_is_wrong_has_its_line(write, content, place, words):
    fails(write("a.conll", content), place, *words)


def test_conllu_needs_its_ten_columns(write):
    fails(write("a.conllu", CONLLU.replace("\t0\troot", "\t0")), ":6", "9 cells", "CoNLL-U has 10")
    fails(write("a.conllu", "1 I I PRON\n2 go go VERB\n"), ":1", "no tabs")
    fails(write("a.conllu", CONLLU), ":1", "'upso'", "did you mean upos?", column="upso")
    fails(write("a.conllu", CONLLU), ":1", "'11'", column=11)
    fails(write("a.conllu", CONLLU), ":1", "two purposes", column="form")
    fails(write("a.conllu", CONLLU), ":1", "two purposes", column="upos,4")
    fails(write("a.conll", NER), ":1", "'ner'", "no names", column="ner")
    fails(write("a.conll", NER), ":1", "'7'", "'1' and '2'", column=7)
    with pytest.raises(InputError, match="--column: an empty name"):
        read_tagged(write("a.conllu", CONLLU), column="upos,")


def test_underscores_are_said_and_a_file_of_nothing_else_has_no_tags(write, caplog):
    some = CONLLU.replace("\tAUX\t", "\t_\t")
    table = read_tagged(write("a.conllu", some))
    assert table.labels[0] == ("PRON", "_", "VERB")
    assert "1 of 5 tags of 'upos' are _, which stands for none (the first in line 5): kept" in caplog.text
    caplog.clear()
    assert read_tagged(write("a.conllu", CONLLU), column="feats").labels[1] == ("_", "_")
    assert not caplog.records
    none = "1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n"
    assert read_tagged(write("b.conllu", none)).task == "unlabelled"
    fails(write("b.conllu", none), ":1", "every tag", "'upos'", labelled=True)


def test_one_sentence_of_a_whole_book_is_doubted(write, caplog):
    table = read_tagged(write("a.conll", "a\tO\n" * 20_500))
    assert [len(example.tokens) for example in table.examples] == [20_500]
    assert "no blank line in 20,500 tokens from line 1 on; is this one sentence?" in caplog.text
    caplog.clear()
    read_tagged(write("a.conll", "a\tO\n" * 300 + "\nb\tO\n"))
    assert not caplog.records


def test_blank_lines_too_many_are_counted(write):
    table = read_tagged(write("a.conll", "\na\tO\n\n\n \t\nb\tO\n\n\n"))
    assert len(table) == 2
    assert any("4 extra blank lines" in note for note in table.notes)


# which files are tagged


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.tsv", NER, True),
        ("a.txt", NER.replace("\t", " "), True),
        ("a.conll", "anything", True),
        ("a.conllu.gz", CONLLU, True),
        ("a.txt", CONLLU, True),
        ("a.tsv", NER.replace("\n", "\r\n"), True),
        ("a.tsv", "word\tner\n" + NER, True),
        ("a.txt", "the DT\ndog NN\nruns VB\n\n" * 10, True),
        ("a.csv", NER.replace("\t", ","), False),
        ("a.tsv", "good film\tpos\nbad film\tneg\n\n" * 20, False),
        ("a.tsv", "good\tpos\nbad\tneg\n" * 20, False),  # one word, one label, no blank line
        ("a.tsv", "label\ttext\npos\ta fine film\nneg\ta bad one\n", False),
        ("a.txt", "two words\nand more\n\nthey rhyme\nbefore four\n\n", False),
        ("a.txt", "a text of one line\n\nand another one here\n", False),
        ("a.jsonl", '{"text": "a", "label": "b"}\n', False),
        ("a.txt", "__label__a good\n__label__b bad\n\n" * 20, False),
        ("a.txt", "", False),
    ],
)
def test_is_tagged(write, name, content, expected):
    data = gzip.compress(content.encode()) if name.endswith(".gz") else content
    assert is_tagged(write(name, data)) == expected


def test_what_is_no_file_is_not_tagged(tmp_path):
    assert not is_tagged("-")
    assert not is_tagged(tmp_path)
    assert not is_tagged(tmp_path / "missing.txt")


# opening


def many(count: int) -> str:
    return "".join(f"Ann{n}\tB-PER\nsaw\tO\nRome{n % 7}\t{'B-LOC' if n % 10 else 'B-ORG'}\n\n" for n in range(count))


def test_splits_are_by_sentence(write):
    path = str(write("a.tsv", many(100) + many(20)))
    splits, note = open_splits(path)
    assert splits.train.task == "spans"
    sides = [splits.train, splits.dev, splits.test]
    assert sum(map(len, sides)) == 120
    texts = [set(side.texts) for side in sides]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    assert all(any("B-ORG" in example.label for example in side.examples) for side in sides)  # the rarest tag is shared out
    assert "train" in note


def test_files_beside_are_read_like_the_first(write):
    train = write("a.conllu", CONLLU + CONLLU.replace("go", "went"))
    beside = write("b.conllu", CONLLU)
    splits, _ = open_splits(str(train), valid=str(beside), test=str(beside), column="xpos,deprel", task="tag")
    for side in (splits.dev, splits.test):
        assert (side.columns, side.others, side.task) == ({"text": "form", "label": "xpos"}, ("deprel",), "tagging")
        assert side.examples[0].others == (("nsubj", "aux", "root"),)
    spans = read_tagged(write("c.tsv", NER))
    assert read_tagged_like(write("d.tsv", "a\tO\nb\tO\n"), spans).task == "spans"
    by_label = open_splits(str(train), valid=str(beside), test=str(beside), label_column="xpos")[0]
    assert by_label.train.columns["label"] == "xpos"
    with pytest.raises(InputError, match="named twice"):
        open_splits(str(train), column="upos", label_column="xpos")
    with pytest.raises(InputError, match=r"--column: .*classification"):
        open_splits(str(train), column="upos", task="classification")


def test_a_table_needs_two_tags(write):
    with pytest.raises(InputError, match=r"every token of the 2 sentences has the tag 'O'; there is no span to learn"):
        check_trainable(read_tagged(write("a.conll", "a\tO\n\nb\tO\n")))
    check_trainable(read_tagged(write("a.conll", NER)))
    one = read_tagged(write("a.conll", NER))
    with pytest.raises(InputError, match="too few"):
        split_table(one.subset([0]))


def test_prediction_takes_tagged_sentences_or_raw_text(write):
    trained = {"text": "1", "label": "2"}
    raw = open_as_trained(str(write("a.txt", "Ann saw Rome.\nSo did Bob.\n")), trained, task="spans")
    assert (raw.texts, raw.examples[0].tokens, raw.task) == (["Ann saw Rome.", "So did Bob."], None, "unlabelled")
    table = open_as_trained(str(write("b.tsv", NER)), trained, task="spans")
    assert (tokens_of(table)[1], table.task) == (("Peter", "Blackburn"), "unlabelled")
    labelled, _ = open_labelled(str(write("b.tsv", NER)), trained, task="spans")
    assert labelled.labels[1] == ("B-PER", "I-PER")
    other = open_as_trained(str(write("c.conllu", CONLLU)), {"text": "form", "label": "xpos"}, labelled=True, task="tagging")
    assert other.labels[0] == ("PRP", "MD", "VB")
    elsewhere = open_as_trained(str(write("d.conll", NER)), {"text": "form", "label": "xpos"}, labelled=True, task="tagging")
    assert elsewhere.labels[1] == ("B-PER", "I-PER")  # other columns than in training: the last is taken
    text = open_as_trained(str(write("e.tsv", NER.replace("\n\n", "\n"))), {"text": "1"}, task="classification")
    assert text.examples[0].tokens is None


# the published files


@pytest.mark.parametrize(
    ("path", "sentences", "words", "entities"),
    [
        ("ner_wnut17/train.tsv", 3394, 62730, 1975),
        ("ner_wnut17/dev.tsv", 1009, 15733, 836),
        ("ner_wnut17/test.tsv", 1287, 23394, 1079),
        ("ud_ewt/en_ewt-ud-train.conllu.gz", 12544, 204577, None),
        ("ud_ewt/en_ewt-ud-dev.conllu.gz", 2001, 25147, None),
        ("ud_ewt/en_ewt-ud-test.conllu.gz", 2077, 25094, None),
    ],
)
def test_the_published_files_have_their_published_counts(path, sentences, words, entities, caplog):
    root = datasets.data_folder()
    if root is None or not (root / path).is_file():
        pytest.skip(f"{path} is not here (WEFT_DATA)")
    assert is_tagged(root / path)
    table = read_tagged(root / path)
    tags = Counter(tag for label in table.labels for tag in label)
    assert (len(table), tags.total()) == (sentences, words)
    assert not caplog.records  # nothing to repair, nothing to doubt
    if entities is None:
        assert (table.task, len(tags)) == ("tagging", 17)
    else:
        assert (table.task, sum(count for tag, count in tags.items() if tag[0] == "B")) == ("spans", entities)
        assert any(token == "#" for sentence in tokens_of(table) for token in sentence) or "train" in path
