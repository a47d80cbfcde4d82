"""weft explain neurons and, of classifiers, alignment: the page and what is said; every error on one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weft import Tagger, TextClassifier
from weft.cli import main as cli

ONE_STEP = {"steps": 1, "device": "cpu", "precision": "fp32", "threads": 1, "validation_fraction": 0.0}
SMALL = {"hidden_size": 5, "embedding_size": 4, "embedding_std": 1.0}
TEXTS = ["the (small) cat sat", "a dog ran off"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Folders: text (an LSTM), cnn, passes (an LSTM under two passes of attention), tags (a bidirectional LSTM that knows two tags)."""
    where = tmp_path_factory.mktemp("models")
    TextClassifier("lstm", SMALL, **ONE_STEP).fit(TEXTS, ["x", "y"]).save(where / "text")
    TextClassifier("cnn", {"filters": 2}, **ONE_STEP).fit(TEXTS, ["x", "y"]).save(where / "cnn")
    TextClassifier("lstm", {**SMALL, "pooling": "passes"}, **ONE_STEP).fit(TEXTS, ["x", "y"]).save(where / "passes")
    sentences = [["a", "b", "a", "b"], ["b", "a"]] * 20
    tagger = Tagger("bilstm", {**SMALL, "features": "", "dropout": 0.0, "learning_rate": 0.05}, **{**ONE_STEP, "steps": 30})
    tagger.fit(sentences, [[word.upper() for word in one] for one in sentences]).save(where / "tags")
    return where


@pytest.fixture
def run(models, tmp_path, monkeypatch, capsys):
    """Runs `weft explain neurons FOLDER …` in an empty folder → (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(folder, *arguments):
        code = cli.main(["explain", "neurons", str(models / folder), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_texts_as_they_stand_and_files(run, tmp_path):
    (tmp_path / "texts.txt").write_text("one line here\n\nanother <b>\n")
    code, out, _ = run("text", "the (small) cat", "texts.txt", "--by", "parentheses", "--top", 2, "--json")
    found = json.loads(out)
    assert code == 0 and found["size"] == 5 and found["texts"] == 3 and found["file"] == "neurons.html" and len(found["neurons"]) == 2
    first, second = found["neurons"]
    assert abs(first["correlation"]) >= abs(second["correlation"]) and first["by"] == "inside parentheses" and 0 < first["by chance"] <= 1
    page = (tmp_path / "neurons.html").read_text()
    assert page.count("<section") == 2 and ">small</span>" in page and "&lt;</span>" in page and "<b></" not in page
    code, out, _ = run("text", "a dog", "--neurons", "4, 0", "--out", "own.html", "--cell")
    assert code == 0 and "memory, tanh(c), 2 pieces of 1 texts: own.html" in out
    assert [line.split()[1] for line in out.splitlines()[1:3]] == ["4", "0"]
    assert (tmp_path / "own.html").exists()


def test_a_taggers_own_tags(run):
    code, out, _ = run("tags", "a b b a a b", "b a", "--by", "each", "--json")
    found = json.loads(out)
    assert code == 0 and found["size"] == 10 and [one["by"] for one in found["neurons"]] == ["A", "B"]
    assert abs(found["neurons"][0]["correlation"]) > 0.6
    assert 'title="' in Path("neurons.html").read_text() and " A" in Path("neurons.html").read_text()
    assert json.loads(run("tags", "a b b a", "--by", "A", "--top", 3, "--json")[1])["neurons"][2]["by"] == "A"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cnn", "a"], "error: model: 'cnn' has no recurrent state to look into; those that have one: rnn, lstm,"),
        (["text", "a", "--neurons", "5"], "error: neurons: there is no neuron 5: the layer has 5, from 0 to 4"),
        (["text", "a", "--neurons", "1,x"], "error: --neurons: are numbers from 0 with commas between, not 'x'"),
        (["text", " "], "error: texts: there is nothing to read: no text with words in it"),
        (["text", "a", "--by", "A"], "error: --by: 'A' is nothing that some of these words are and others are not; there are brackets,"),
        (["text", "a dog", "--by", "url"], "the same everywhere in these texts"),
        (["tags", "a b", "--by", "b"], "error: --by: 'b' is nothing that some"),
        (["text", "a", "--top", "0"], "error: top: must be at least 1, not 0"),
        (["text", "a", "--layer", "2"], "error: layer: must be from 1 to 1"),
        (["text", "a", "--out", "page.png"], "error: page.png: a page's name ends in .html"),
        (["text", "missing.txt"], "error: missing.txt: "),
        (["nowhere", "a"], "is not a model folder"),
    ],
)
def test_errors_are_one_line(run, arguments, said):
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and said in err and err.splitlines()[-1].startswith("error: ")
    assert not Path("neurons.html").exists()


def test_help_lists_it(capsys):
    assert cli.main(["explain"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "neurons Single neurons of a recurrent model" in listed and "alignment What attention looks at" in listed
    assert cli.main(["explain", "neurons", "--help"]) == 0


def test_a_classifiers_attention_pass_by_pass(models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", str(models / "passes"), "the cat sat", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == ["the", "cat", "sat"] and found["target"] == ["pass 1", "pass 2"]
    assert all(abs(sum(row) - 1) < 1e-3 for row in found["maps"][0]["weights"])
    page = Path("alignment.html").read_text()
    assert "<h1>the cat sat → " in page and "Rows: the passes of attention over the text." in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cnn", "a b"], "error: model: has no attention to show: its pooling is neither attentive nor in passes"),
        (["tags", "a b"], "weft explain neurons of taggers"),
        (["passes", "  "], "error: text: is empty"),
        (["passes", "a", "--target", "b"], "error: --target: is a translator's; this model does classification"),
    ],
)
def test_what_has_no_attention_is_told(models, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", "alignment", str(models / arguments[0]), *arguments[1:]]) == 2
    assert said in capsys.readouterr().err and not Path("alignment.html").exists()
