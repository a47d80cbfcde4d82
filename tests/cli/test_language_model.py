"""weft train, evaluate and generate on text without labels: from a file to a folder to more text; what is wrong, in one line."""

from __future__ import annotations

import json
import math
import random

import pytest

import weft
from weft.cli import main as cli
from weft.data.raw import cut_end, read_raw
from weft.errors import InputError
from weft.generation.search import Sample

TINY = ["layers=1", "hidden_size=16", "embedding_size=16", "heads=2", "block=16", "batch_size=4", "checks=2"]
EXACT = ["--precision", "fp32", "--threads", "1"]


def text(words: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    return "".join(draw.choice(("bake", "dilo", "lobu", "na")) + draw.choice("    \n") for _ in range(words))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    where = tmp_path_factory.mktemp("raw")
    (where / "all.txt").write_text(text(400))
    assert cli.main([
        "train", str(where / "all.txt"), "--task", "language-model", "--out", str(where / "model"), "--steps", "6", "--set", *TINY, *EXACT
    ]) == 0  # fmt: skip
    return where / "model"


def test_train_says_what_it_did(weft_, tmp_path):
    (tmp_path / "a.txt").write_text(text(300))
    done = weft_("train", tmp_path / "a.txt", "--task", "language-model", "--model", "ngram", "--out", tmp_path / "m", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["model"] == "ngram" and found["split"] == "dev"
    assert set(found["metrics"]) == {"perplexity", "loss", "word_perplexity", "bits_per_character"}
    assert "dev (10%) cut off the end of a.txt" in done.err
    card = (tmp_path / "m" / "README.md").read_text()
    assert 'model.generate("Once")' in card and "text-generation" in card


def test_evaluate_measures_a_file(weft_, model, tmp_path):
    (tmp_path / "b.txt").write_text(text(50, seed=1))
    done = weft_("evaluate", model, tmp_path / "b.txt", "--json", *EXACT)
    metrics = json.loads(done.out)["metrics"]
    made = weft.load(model, precision="fp32", threads=1)
    assert metrics == pytest.approx(made.evaluate(text(50, seed=1)), rel=1e-6)
    size, words = len(text(50, seed=1)), text(50, seed=1)
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
    whole = metrics["loss"] * (size + 1)  # characters, and the end
    assert metrics["bits_per_character"] == pytest.approx(whole / math.log(2) / size)
    assert metrics["word_perplexity"] == pytest.approx(math.exp(whole / (50 + words.count("\n") + (not words.endswith("\n")))))


def test_generate_streams_what_python_gives(weft_, model):
    made = weft.load(model, precision="fp32", threads=1)
    done = weft_("generate", model, "--prompt", "bake", "--tokens", 30, "--seed", 4, *EXACT)
    assert done.code == 0
    assert done.out == "bake" + made.generate("bake", tokens=30, search=Sample(temperature=0.8, top_k=50, seed=4)) + "\n"
    done = weft_("generate", model, "--prompt", "na", "--tokens", 9, "--samples", 3, "--json", *EXACT)
    found = json.loads(done.out)
    assert found["prompt"] == "na" and len({answer["text"] for answer in found["answers"]}) == 3
    told = weft_("generate", model, "--prompt", "na", "--tokens", 9, "--samples", 2, *EXACT).out
    assert told.startswith("--- 1\nna" + found["answers"][0]["text"])
    assert weft_("generate", model, "--beam", 2, "--tokens", 3, *EXACT).code == 0


def test_a_table_of_texts(tmp_path, weft_):
    (tmp_path / "t.csv").write_text("id,text,label\n" + "".join(f'{n},"{text(20, n)}",x\n' for n in range(12)))
    table = read_raw(tmp_path / "t.csv", text_column="text")
    assert len(table) == 12 and table.texts[3] == text(20, 3) and table.task == "language-model"
    done = weft_(
        "train", tmp_path / "t.csv", "--task", "language-model", "--model", "ngram", "--text-column", "text", "--out", tmp_path / "m"
    )
    assert done.code == 0 and "perplexity" in done.err


def test_the_end_is_cut_off():
    assert cut_end(["0123456789"], 0.3) == (["0123456"], ["789"])
    assert cut_end(["a", "b", "c"], 0.1) == (["a", "b"], ["c"])
    for texts, share in ((["a"], 0.5), (["ab  "], 0.5)):
        with pytest.raises(InputError, match="too short to set a part of it aside"):
            cut_end(texts, share)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "SHORT", "--task", "language-model", "--out", "OUT"], "too few for one block of 64"),
        (["train", "EMPTY", "--task", "language-model", "--out", "OUT"], "the file is empty"),
        (["train", "TEXT", "--task", "language-model", "--label-column", "x", "--out", "OUT"], "--label-column: has no meaning"),
        (["train", "TEXT", "--task", "language-model", "--loss", "hinge", "--out", "OUT"], "--loss: a language model learns by"),
        (["train", "TEXT", "--task", "language-model", "--model", "cnn", "--out", "OUT"], "'cnn' does not do language-model"),
        (["train", "TEXT", "--task", "language-model", "--batch-tokens", "9", "--out", "OUT"], "--batch-tokens: is not for"),
        (["train", "TEXT", "--task", "language-models", "--out", "OUT"], "there is no task 'language-models'"),
        (["compare", "TEXT", "--task", "language-model"], "--task: perplexities of different tokens cannot be compared"),
        (["predict", "MODEL", "TEXT"], "is a language model; weft generate"),
        (["generate", "MODEL", "--tokens", "0"], "--tokens: must be at least 1, not 0"),
        (["generate", "MODEL", "--beam", "2", "--top-k", "3"], "--top-k: is for texts that are drawn"),
        (["generate", "MODEL", "--beam", "2", "--samples", "3"], "--samples: draws, and --beam searches"),
        (["generate", "MODEL", "--temperature", "-1"], "temperature: must be a number of at least 0"),
        (["generate", "EMPTY"], "is not a model folder"),
    ],
)
def test_what_cannot_be_is_one_line(weft_, model, tmp_path, arguments, said):
    files = {"SHORT": "a few letters only\n", "EMPTY": "", "TEXT": text(100)}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    places = {"MODEL": model, "OUT": tmp_path / "out", **{name: tmp_path / name for name in files}}
    done = weft_(*[places.get(argument, argument) for argument in arguments])
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.code == 2 and said in line
