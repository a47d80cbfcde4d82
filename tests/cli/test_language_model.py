"""weft train, evaluate and generate on text without labels: from a file to a folder to more text; what is wrong, in one line."""

from __future__ import annotations

import json
import math
import random

import pytest
from checkpoints import MINILM
from language_models import GPT2

import weft
from weft.cli import main as cli
from weft.data.raw import cut_end, read_raw
from weft.errors import InputError
from weft.generation.search import Greedy, Sample

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


def test_a_public_folder_is_asked(weft_, tmp_path):
    made = weft.LanguageModel.from_pretrained(GPT2, precision="fp32", threads=1)
    done = weft_("generate", GPT2, "--prompt", "It was", "--tokens", 12, "--beam", 1, *EXACT)
    assert done.code == 0 and done.out == "It was" + made.generate("It was", tokens=12, search=Greedy()) + "\n"
    (tmp_path / "a.txt").write_text(text(40))
    done = weft_("evaluate", GPT2, tmp_path / "a.txt", "--json", *EXACT)
    assert json.loads(done.out)["metrics"] == pytest.approx(made.evaluate(text(40)), rel=1e-6)
    done = weft_("generate", GPT2, "--prompt", "It was " * 60, "--tokens", 2, *EXACT)
    assert done.code == 0 and "1 of 1 prompts are longer than the 64 tokens seen at once" in done.err


def test_trained_on_from_a_folder(weft_, model, tmp_path):
    (tmp_path / "a.txt").write_text(text(400))
    for number, source in enumerate((GPT2, model)):
        done = weft_(
            "train", tmp_path / "a.txt", "--task", "language-model", "--from", source, "--out", tmp_path / f"m{number}", "--steps", 20,
            "--json", *EXACT, "--set", "block=16", "batch_size=4", "learning_rate=3e-3", "layer_decay=1.2",
        )  # fmt: skip
        assert done.code == 0, done.err
        found = json.loads(done.out)
        held = cut_end([text(400)], 0.1)[1]
        assert found["model"] == "pretrained" and found["metrics"]["perplexity"] < weft.load(source).perplexity(held)
        assert json.loads((tmp_path / f"m{number}" / "config.json").read_text())["engine"]["pretrained"]["name"] == str(source)
        assert weft_("generate", tmp_path / f"m{number}", "--tokens", 3, *EXACT).code == 0
    assert (tmp_path / "m1" / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


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
        (["generate", str(MINILM)], "holds a pretrained encoder (bert): weft train DATA --from"),
        (["train", "TEXT", "--task", "language-model", "--from", str(MINILM), "--out", "OUT"], "is an encoder (bert), which foretells no"),
        (["train", "TEXT", "--task", "language-model", "--from", "gone", "--out", "OUT"], "gone: is no folder and no pretrained model"),
        (["train", "TEXT", "--task", "language-model", "--from", GPT2, "--model", "gpt", "--out", "OUT"], "--from: 'gpt' starts from no"),
        (
            ["train", "TEXT", "--task", "language-model", "--from", GPT2, "--out", "OUT", "--set", "block=99"],
            "block: must be at most the 64",
        ),
        (["train", "TEXT", "--task", "language-model", "--model", "pretrained", "--out", "OUT"], "pretrained: names no language model"),
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
