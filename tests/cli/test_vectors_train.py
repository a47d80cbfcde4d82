"""`weft vectors train` and `compare` from the command line: files, one line for what is wrong, what is loaded, and two processes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reviews import strict

import weft.vectors.methods
from weft.vectors.keyed import KeyedVectors

QUICK = ["--dim", "6", "--epochs", "2", "--threads", "1", "--min-count", "2"]


@pytest.fixture
def weft_(weft_: Any) -> Any:
    """weft_("train", …) → code, out, err of `weft vectors train …`."""
    return partial(weft_, "vectors")


def text(lines: int = 300) -> str:
    draw = random.Random(0)
    topics = [["cat", "dog", "cow"], ["red", "blue", "green"]]
    return "".join(" ".join(draw.choices([*draw.choice(topics), "the", "a"], k=9)) + "\n" for _ in range(lines))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(text(), encoding="utf-8")
    return path


@pytest.mark.parametrize("method", ["skipgram", "svd", "glove"])
def test_json_is_one_object_and_the_file_is_there(weft_: Any, corpus: Path, tmp_path: Path, method: str) -> None:
    out = tmp_path / "new" / "v.vec"  # the folder is made
    done = weft_("train", corpus, "--method", method, "--out", out, "--json", *(QUICK if method != "svd" else ["--dim", 4]))
    said = strict(done.out)
    assert done.code == 0 and done.out.count("\n") == 1
    assert said["file"] == str(out) and said["method"] == method and said["words"] == 8 and said["seed"] == 1 and said["tokens"] == 2700
    assert ("loss" in said["metrics"]) == (method != "svd") and set(said["seconds"]) >= {"read", "train"}
    assert sorted(KeyedVectors.load(out).words) == ["a", "blue", "cat", "cow", "dog", "green", "red", "the"]


def test_people_get_two_lines_and_every_option_arrives(weft_: Any, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    true = weft.vectors.methods.WordVectors

    def spy(method: str, **options: Any) -> Any:
        seen.append({"method": method, **options})
        return true(method, **options)

    monkeypatch.setattr(weft.vectors.methods, "WordVectors", spy)
    done = weft_(
        "train", corpus, "--method", "fasttext", "--loss", "ns", "--dim", 4, "--window", "all", "--negative", 3, "--epochs", 1,
        "--min-count", 3, "--sample", 0, "--rate", 0.1, "--threads", 1, "--seed", 7, "--tokenizer", "letters", "--lowercase",
        "--set", "min_n=2", "max_n=3", "buckets=50", "--out", tmp_path / "[v].safetensors",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out == "" and "\n8 words, vectors of 4, loss" in done.err and f"\nsaved to {tmp_path}/[v].safetensors; " in done.err
    assert seen == [
        {
            "method": "fasttext", "loss": "ns", "dim": 4, "window": "all", "negative": 3, "epochs": 1, "min_count": 3, "sample": 0.0,
            "rate": 0.1, "threads": 1, "seed": 7, "tokenizer": "letters", "lowercase": True, "contexts": "window",
            "settings": {"min_n": "2", "max_n": "3", "buckets": "50"},
        }
    ]  # fmt: skip
    assert KeyedVectors.load(tmp_path / "[v].safetensors")["catty"].shape == (4,)
    assert weft_("neighbors", tmp_path / "[v].safetensors", "cat", "--json").code == 0


WRONG: dict[str, list[str]] = {
    "nothing.txt: is not there": ["nothing.txt", "--out", "v.vec"],
    "empty.txt: holds no words": ["empty.txt", "--out", "v.vec"],
    "empty: is a folder without files": ["empty", "--out", "v.vec"],
    "once.txt: no word comes twice, and min_count is 5": ["once.txt", "--out", "v.vec"],
    "v.pdf: its name should end in .vec, .bin, .txt or .safetensors": ["nothing.txt", "--out", "v.pdf"],
    "empty.vec: is a folder": ["nothing.txt", "--out", "empty.vec"],
    "method: there is no 'skipgramm' (did you mean skipgram?)": ["corpus.txt", "--out", "v.vec", "--method", "skipgramm"],
    "loss: must be ns, hs, softmax, not 'nce'": ["corpus.txt", "--out", "v.vec", "--loss", "nce"],
    "window: must be": ["corpus.txt", "--out", "v.vec", "--window", "five"],
    "dim: must be": ["corpus.txt", "--out", "v.vec", "--dim", "0"],
    "dim: 100 does not fit 8 words": ["corpus.txt", "--out", "v.vec", "--method", "svd"],
    "sample: must be": ["corpus.txt", "--out", "v.vec", "--sample", "nan"],
    "rate: must be": ["corpus.txt", "--out", "v.vec", "--rate", "-1"],
    "threads: must be": ["corpus.txt", "--out", "v.vec", "--threads", "0"],
    "min_count: must be": ["corpus.txt", "--out", "v.vec", "--min-count", "0"],
    "--seed: must be": ["corpus.txt", "--out", "v.vec", "--seed", "-1"],
    "tokenizer: must be": ["corpus.txt", "--out", "v.vec", "--tokenizer", "letter"],
    "contexts: ": ["corpus.txt", "--out", "v.vec", "--contexts", "syntax"],
    "settings: skipgram has no setting 'buckets'": ["corpus.txt", "--out", "v.vec", "--set", "buckets=5"],
    "--set: must be KEY=VALUE": ["corpus.txt", "--out", "v.vec", "--set", "buckets"],
    "min_n: ": ["corpus.txt", "--out", "v.vec", "--method", "fasttext", "--set", "min_n=9"],
    "missing option '--out'": ["corpus.txt"],
    "bad.conllu:1: has 2 columns": ["bad.conllu", "--out", "v.vec", "--contexts", "syntax"],
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_one_line_and_2(weft_: Any, corpus: Path, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus.parent)
    Path("empty.txt").touch()
    Path("empty").mkdir()
    Path("empty.vec").mkdir()
    Path("once.txt").write_text("every word once", encoding="utf-8")
    Path("bad.conllu").write_text("1\tx\n", encoding="utf-8")
    done = weft_("train", *WRONG[said])
    assert done.code == 2 and done.out == "" and said in done.err, done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in done.err
    assert not Path("v.vec").exists()


@pytest.mark.parametrize("method", ["skipgram", "cbow", "fasttext", "glove", "svd"])
def test_what_is_loaded(corpus: Path, tmp_path: Path, method: str) -> None:
    """No torch; scipy and scikit-learn only for what counts."""
    code = "import sys; from weft.cli.main import main; c = main(sys.argv[1:]); print(c, *sys.modules)"
    options = ["--set", "buckets=99"] if method == "fasttext" else []
    command = ["vectors", "train", corpus, "--method", method, "--out", tmp_path / "v.vec", *QUICK, *options]
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True, check=True)
    code_, *loaded = done.stdout.splitlines()[-1].split()
    assert code_ == "0" and "torch" not in loaded
    assert ("sklearn" in loaded) == (method == "svd")
    assert ("scipy.sparse" in loaded) == (method in ("svd", "glove"))  # Numba looks for scipy itself


# compare


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small benchmarks of the corpus's words."""
    folder = tmp_path / "data" / "wordvec_eval"
    folder.mkdir(parents=True)
    pairs = "cat\tdog\t9\ncat\tred\t1\nred\tblue\t8\ncow\tgreen\t2\n"
    for name in ("ws353", "simlex999", "men"):
        (folder / f"sim_{name}.tsv").write_text(pairs, encoding="utf-8")
    (folder / "analogy_google_questions-words.txt").write_text(": x\ncat dog red blue\ncat cow red green\n", encoding="utf-8")
    monkeypatch.setenv("WEFT_DATA", str(tmp_path / "data"))
    return folder


def test_compare_measures_methods_on_the_same_corpus(weft_: Any, corpus: Path, sets: Path, tmp_path: Path) -> None:
    command = ["compare", corpus, "--methods", "skipgram, cbow+hs,svd", "--seeds", 2, "--min-count", 2, "--dim", 4, "--threads", 1]
    done = weft_(*command, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    said = strict(done.out)
    assert [row["name"] for row in said["methods"]] == ["skipgram", "cbow+hs", "svd"] and len(said["runs"]) == 6
    assert said["words"] == 8 and set(said["metrics"]) == {"skipgram", "cbow+hs", "svd"}
    assert json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8")) == said
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"results.json", *(f"{name}-{seed}.safetensors" for name in ("skipgram", "cbow+hs", "svd") for seed in (1, 2))}
    table = weft_(*command)
    assert table.code == 0 and "skipgram" in table.out and "±" in table.out


def test_compare_where_a_benchmark_has_no_word_of_the_corpus(weft_: Any, corpus: Path, sets: Path) -> None:
    (sets / "sim_men.tsv").write_text("sun\tmoon\t3\nsun\tstar\t2\n", encoding="utf-8")
    (sets / "analogy_google_questions-words.txt").write_text(": x\nsun moon star dust\n", encoding="utf-8")
    command = ["compare", corpus, "--methods", "skipgram", "--min-count", 2, "--dim", 4, "--threads", 1]
    done = weft_(*command, "--json")
    assert done.code == 0, done.err
    row = strict(done.out)["methods"][0]
    assert row["mean_similarity"] is None and row["analogy"] is None and row["similarity"]["men"] is None
    assert "–" in weft_(*command).out


@pytest.mark.parametrize(
    "said, options",
    [
        ("methods: there is no 'word2vec'", ["--methods", "skipgram,word2vec"]),
        ("loss: must be ns, hs, softmax, not 'nce'", ["--methods", "skipgram+nce"]),
        ("--seeds: must be at least 1, not 0", ["--seeds", "0"]),
        ("--seed: must be", ["--seed", "4294967295", "--seeds", "2"]),
        ("dim: must be", ["--dim", "0"]),
        ("corpus.txt: is there and no folder", ["--out", "corpus.txt"]),
    ],
)
def test_what_is_wrong_in_compare(
    weft_: Any, corpus: Path, sets: Path, said: str, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus.parent)
    done = weft_("compare", corpus, *options)
    assert done.code == 2 and done.out == "" and said in done.err and done.err.count("error: ") == 1, done.err


def test_a_benchmark_that_is_not_here_is_said_before_training(
    weft_: Any, corpus: Path, sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sets / "sim_men.tsv").unlink()
    monkeypatch.setattr(weft.vectors.methods.WordVectors, "fit", lambda *arguments: pytest.fail("trained"))
    done = weft_("compare", corpus)
    assert done.code == 2 and "men not on this machine" in done.err


# many processes


def test_two_processes_end_with_the_same_tables_and_one_writes(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text(text(30_000), encoding="utf-8")
    code = (
        "import os, sys, numpy as np\n"
        "from weft.cli.main import main\n"
        "from weft.vectors.keyed import KeyedVectors\n"
        "from weft.vectors import methods\n"
        "class Keep(methods.KeyedVectors):\n"
        "    def __init__(self, words, vectors, **more):\n"
        "        np.save(f\"rank{os.environ['RANK']}.npy\", vectors)\n"
        "        super().__init__(words, vectors, **more)\n"
        "methods.KeyedVectors = Keep\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "run.py").write_text(code, encoding="utf-8")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "run.py"]
    command = ["vectors", "train", "corpus.txt", "--out", "v.vec", "--json", "--dim", "6", "--epochs", "3", "--threads", "1"]
    done = subprocess.run(
        [*start, *command], env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = strict(done.stdout)  # one object: the second process keeps quiet
    first, second = (np.load(tmp_path / f"rank{rank}.npy") for rank in (0, 1))
    assert first.tobytes() == second.tobytes()
    vectors = KeyedVectors.load(tmp_path / "v.vec")
    assert np.array_equal(vectors.vectors, first)
    losses = said["metrics"]["losses"]
    assert len(losses) == 3 and losses[2] < losses[0]
    assert vectors.similarity("cat", "dog") > vectors.similarity("cat", "red")
