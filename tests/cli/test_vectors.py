"""`weft vectors`: what it prints is what the library says; every fault is one line and exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from weft.cli import main as cli
from weft.vectors.evaluation import evaluate
from weft.vectors.keyed import KeyedVectors

# royal, woman, plural, place, animal: the analogies hold exactly
WORDS = {
    "king": (9, 1, 1, 0, 0), "queen": (9, 5, 1, 0, 0), "kings": (9, 1, 5, 0, 0), "queens": (9, 5, 5, 0, 0),
    "man": (1, 1, 1, 0, 1), "woman": (1, 5, 1, 0, 1), "men": (1, 1, 5, 0, 1), "women": (1, 5, 5, 0, 1),
    "prince": (7, 1, 1, 0, 1), "princess": (7, 5, 1, 0, 1), "paris": (0, 0, 0, 9, 0), "london": (0, 0, 1, 9, 0),
    "rome": (1, 0, 0, 9, 0), "berlin": (0, 1, 0, 9, 0), "cat": (0, 1, 0, 0, 9), "cats": (0, 1, 4, 0, 9),
    "dog": (0, 0, 1, 0, 9), "dogs": (0, 0, 5, 0, 9), "horse": (1, 0, 1, 0, 8), "horses": (1, 0, 5, 0, 8),
}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in WORDS.items()]
    (tmp_path / "small.vec").write_text("\n".join([f"{len(WORDS)} 5", *lines]) + "\n")
    return tmp_path / "small.vec"


@pytest.fixture
def run(file, capsys):
    def run(command: str, *arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["vectors", command, str(file), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_neighbors_are_most_similars(run, file):
    kv = KeyedVectors.load(file)
    code, out, _ = run("neighbors", "king", "woman", "--negative", "man", "--topn", 4, "--json")
    found = json.loads(out)
    assert code == 0
    assert [(one["word"], one["score"]) for one in found["neighbors"]] == kv.most_similar(["king", "woman"], ["man"], 4)
    code, out, err = run("neighbors", "cat", "--topn", 2)
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["word", "dog", "horse"]
    assert "20 words" in err


@pytest.mark.parametrize("method", ["add", "multiply"])
def test_analogy_asks_b_minus_a_plus_c(run, file, method):
    code, out, _ = run("analogy", "man", "woman", "king", "--method", method, "--json")
    answers = [(one["word"], one["score"]) for one in json.loads(out)["answers"]]
    assert code == 0 and answers == KeyedVectors.load(file).analogy("man", "woman", "king", method)
    assert answers[0][0] == "queen"
    assert run("analogy", "man", "woman", "king", "--topn", 1)[1].split()[2] == "queen"


def test_evaluate_says_what_the_library_says(run, file, tmp_path, monkeypatch):
    monkeypatch.setenv("WEFT_DATA", str(tmp_path))
    (tmp_path / "wordvec_eval").mkdir()
    (tmp_path / "wordvec_eval" / "sim_men.tsv").write_text("cat\tdog\t9\nking\tqueen\t8\nking\tcat\t1\n")
    (tmp_path / "sim.tsv").write_text("Cat\tdog\t9\nking\tqueen\t8\nking\tcat\t1\nunicorn\tcat\t3\n")
    (tmp_path / "ask.txt").write_text(": plural\ncat cats dog dogs\n: sex\nman woman king queen\nman woman bull cow\n")
    (tmp_path / "kinds.tsv").write_text("cat\tanimal\ndog\tanimal\nparis\tplace\nrome\tplace\n")
    own = {"similarity": [tmp_path / "sim.tsv"], "analogies": [tmp_path / "ask.txt"], "categories": [tmp_path / "kinds.tsv"]}
    options = [part for name, paths in own.items() for path in paths for part in (f"--{name}", path)]
    code, out, _ = run("evaluate", *options, "--json")
    found = json.loads(out)
    assert code == 0 and (found["words"], found["size"]) == (20, 5)
    assert found["metrics"] == evaluate(KeyedVectors.load(file), **own)
    assert found["metrics"]["similarity"][str(tmp_path / "sim.tsv")]["known"] == 3
    table = run("evaluate", *options, "--sets", "all")[1]
    lines = {line.split()[0]: line.split()[1:] for line in table.splitlines()}
    assert lines["men"][0] == "Spearman" and lines["men"][2:] == ["3", "3"]
    assert lines["plural"] == ["1.0000", "1", "1"] and lines["sex"] == ["1.0000", "1", "2"]
    assert lines[str(tmp_path / "kinds.tsv")] == ["purity", "1.0000", "4", "4"]
    assert json.loads(run("evaluate", "--json")[1])["metrics"]["similarity"].keys() == {"men"}


def test_map_writes_what_it_says(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("map", "--json")
    found = json.loads(out)
    assert code == 0 and found["words"] == 20 and found["files"] == ["map.html"] and len(found["explained"]) == 2
    assert (tmp_path / "map.html").read_text().count("<text ") == 20
    (tmp_path / "words.txt").write_text("cat\nunicorn\n\ndog\n")
    code, out, err = run("map", "king", "cat", "--words-file", "words.txt", "--out", "a.html", "--projector", "projector")
    assert code == 0 and "1 of 3 words have no vector" in err and out.startswith("3 words: a.html, ")
    assert (tmp_path / "projector" / "metadata.tsv").read_text() == "king\ncat\ndog\n"
    assert json.loads(run("map", "--top", 2, "--projector", "two", "--json")[1])["words"] == 2  # no map, so two will do


def test_map_as_a_picture(run, tmp_path):
    pytest.importorskip("matplotlib")
    assert run("map", "--method", "tsne", "--out", tmp_path / "a.png")[0] == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["neighbors", "kingg"], "'kingg' is not among the 20 words; near it are king, kings"),
        (["neighbors", "king", "--topn", "0"], "topn: must be at least 1, not 0"),
        (["analogy", "man", "king", "woman", "--method", "divide"], "method: 'divide' is not known"),
        (["evaluate", "--sets", "men,ws350"], "sets: 'ws350' is not one of ws353"),
        (["evaluate", "--similarity", "none.tsv"], "none.tsv: there is no such file"),
        (["evaluate", "--similarity", "{small.vec}"], "small.vec:1: two words and a score"),
        (["map", "--out", "a.gif"], "a.gif: a map's name ends in .html or .png"),
        (["map", "king", "kingg", "cat"], "'kingg' is not among"),
        (["map", "king"], "words: a map takes 3 to 3,000 different words, not 1"),
        (["map", "--top", "0"], "--top: must be at least 1, not 0"),
        (["map", "--method", "umap"], "method: 'umap' is not known"),
        (["map", "--seed", "-1"], "--seed: must be from 0"),
    ],
)
def test_a_fault_is_one_line_and_exit_code_2(run, file, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*(argument.replace("{small.vec}", str(file)) for argument in arguments))
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, out) == (2, "") and len(errors) == 1 and said in errors[0]
    assert list(tmp_path.iterdir()) == [file]


def test_no_command_loads_torch(file, tmp_path):
    code = (
        "import sys\nfrom weft.cli.main import main\n"
        f"assert main(['vectors', 'neighbors', {str(file)!r}, 'king']) == 0\n"
        f"assert main(['vectors', 'map', {str(file)!r}, '--out', {str(tmp_path / 'm.html')!r}]) == 0\n"
        "print(*{name.split('.')[0] for name in sys.modules} & {'torch', 'sklearn', 'matplotlib'}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == "", done.stderr
