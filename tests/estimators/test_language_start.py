"""Language models that start from a folder: what `transformers` answers with the same weights (tests/support/make_gpt2.py), training on,
folders that need no checkpoint any more, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import MINILM
from language_models import GPT2, PARAGRAPH, estimator, text
from safetensors.torch import load_file, save_file

import weft
from weft import LanguageModel, TextClassifier
from weft.data.batch import Batch
from weft.errors import InputError
from weft.estimators.language_start import language_start
from weft.generation.search import Beam, Greedy, Sample

EXACT: dict[str, Any] = {"precision": "fp32", "threads": 1}
QUICK: dict[str, Any] = {"steps": 2, "validation_fraction": 0, **EXACT}
EXPECTED = json.loads((Path(GPT2) / "expected.json").read_text(encoding="utf-8"))
SMALL = {"pretrained": GPT2, "block": 16, "batch_size": 4}


@pytest.fixture(scope="module")
def start() -> LanguageModel:
    return LanguageModel.from_pretrained(GPT2, **EXACT)


def state(made: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.engine_.model.state_dict().items()}


def copied(tmp_path: Path, **settings: Any) -> Path:
    """The tiny GPT-2, with other settings in its config.json."""
    folder = Path(shutil.copytree(GPT2, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


# as transformers


def test_probabilities_are_those_of_transformers(start):
    spelling = start.engine_.spelling
    for written, ids in zip(EXPECTED["texts"], EXPECTED["ids"], strict=True):
        assert [*spelling.prompt(written).tolist(), spelling.end] == ids
    np.testing.assert_allclose(-start.log_probabilities(EXPECTED["texts"]), EXPECTED["losses"], rtol=0, atol=1e-4)


def test_perplexity_by_windows_is_that_of_transformers(start):
    wanted = EXPECTED["by_windows"]
    np.testing.assert_allclose(start.engine_.losses([EXPECTED["long"]]), wanted, rtol=0, atol=1e-5)  # its own window and stride
    told = start.evaluate(EXPECTED["long"], window=EXPECTED["window"], stride=EXPECTED["stride"])
    assert told["perplexity"] == pytest.approx(np.exp(np.mean(wanted)), rel=1e-6)
    assert told["bits_per_character"] == pytest.approx(np.sum(wanted) / np.log(2) / len(EXPECTED["long"]), rel=1e-6)


def test_what_follows_is_what_transformers_finds(start):
    spelling, tokens = start.engine_.spelling, len(EXPECTED["following"][0])
    told = start.continuations(EXPECTED["prompts"], search=Greedy(), tokens=tokens)
    for prompt, ids, (found,) in zip(EXPECTED["prompts"], EXPECTED["following"], told, strict=True):
        assert found.text == spelling.after(spelling.prompt(prompt), ids) and len(found.tokens) == len(ids)


def test_a_special_tokens_name_within_a_text_is_text(start):
    row = start.engine_.spelling.prompt("no <|endoftext|>")
    assert row[0] == start.engine_.spelling.end and (row[1:] != row[0]).all()


# saved and loaded


def test_a_public_folder_is_loaded_and_saved(start, tmp_path):
    saved = start.save(tmp_path / "model")
    loaded = [weft.load(GPT2, **EXACT), weft.load(saved, **EXACT)]
    for made in (start, *loaded):
        made.told = [made.evaluate(PARAGRAPH), made.generate("it was", tokens=9), made.generate("", tokens=5, search=Beam(3))]
    assert start.told == loaded[0].told == loaded[1].told and loaded[1].model == "pretrained"
    config = json.loads((saved / "config.json").read_text())
    assert config["engine"]["pretrained"]["family"] == "gpt2" and "| pretrained |" in (saved / "README.md").read_text()
    again = loaded[1].save(tmp_path / "again")
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (again / file).read_bytes() == (saved / file).read_bytes() or file == "config.json"
    assert json.loads((again / "config.json").read_text())["engine"] == config["engine"]


def test_trained_on_the_folder_needs_no_checkpoint(tmp_path):
    shutil.copytree(GPT2, tmp_path / "start")
    made = LanguageModel("gpt", {**SMALL, "pretrained": str(tmp_path / "start")}, **QUICK).fit(PARAGRAPH)  # any model's name gives way
    saved = made.save(tmp_path / "model")
    shutil.rmtree(tmp_path / "start")
    loaded = weft.load(saved, **EXACT)
    assert loaded.perplexity(PARAGRAPH) == made.perplexity(PARAGRAPH) and loaded.history_ is None
    onward = LanguageModel(settings={"pretrained": str(saved), "block": 16}, **QUICK).fit(PARAGRAPH)  # and can be trained on again
    assert onward.engine_.pretrained_facts["family"] == "language-model"


# training on


def test_training_on_lowers_perplexity(start):
    made = LanguageModel("pretrained", {**SMALL, "learning_rate": 5e-3}, steps=60, **EXACT).fit(PARAGRAPH * 3, validation=PARAGRAPH)
    assert made.perplexity(PARAGRAPH) < 0.2 * start.perplexity(PARAGRAPH)
    assert made.history_.checks[-1]["perplexity"] < made.history_.checks[0]["perplexity"]


def test_it_starts_where_the_folder_ended(start):
    read = language_start(GPT2)
    assert all(np.array_equal(value.numpy(), read.weights[name]) for name, value in state(start).items())
    made = LanguageModel(settings={**SMALL, "learning_rate": 1e-12}, **QUICK).fit(PARAGRAPH)
    assert made.perplexity(PARAGRAPH) == pytest.approx(start.perplexity(PARAGRAPH), rel=1e-4)
    assert start.engine_.block == 64 and made.engine_.block == 16  # as many as it sees, unless told


def test_layers_are_freed_one_an_epoch_and_rates_fall(start):
    before, groups = state(start), start.engine_.model.layer_groups()
    assert len(groups) == 3  # embeddings and positions, two blocks
    settings = {**SMALL, "learning_rate": 1e-3, "weight_decay": 0.0}
    made = LanguageModel(settings={**settings, "tune": "gradual"}, **{**QUICK, "steps": 1}).fit(PARAGRAPH)
    moved = [any(not torch.equal(state(made)[name], before[name]) for name in group) for group in groups]
    assert moved == [False, False, True]
    plain, fallen = (LanguageModel(settings={**settings, "layer_decay": decay, "optimizer": "sgd", "schedule": "constant", "warmup": 0.0,
        "layer_dropout": 0.0}, **{**QUICK, "steps": 1}).fit(PARAGRAPH) for decay in (1.0, 10.0))  # fmt: skip
    for depth, group in enumerate(groups):
        for name in group:
            wanted, found = (state(one)[name] - before[name] for one in (plain, fallen))
            torch.testing.assert_close(found, wanted * 10.0 ** (depth - len(groups)), rtol=2e-2, atol=1e-6)


def test_dropouts_are_its_own_unless_told():
    made = LanguageModel(settings=SMALL, **QUICK).fit(PARAGRAPH).engine_.model
    assert made.config.encoder_settings["layer_dropout"] == 0.1 and made.dropout.p == 0.0
    rates = {"layer_dropout": 0.3, "dropout": 0.2, "embedding_dropout": 0.4}
    made = LanguageModel(settings={**SMALL, **rates}, **QUICK).fit(PARAGRAPH).engine_.model
    assert made.encoder.dropout.p == 0.3 and made.dropout.p == 0.2 and made.embedding_dropout.p == 0.4


@pytest.mark.parametrize("case", ["gpt", "lstm, adaptive, every dropout", "ngram-neural"])
def test_one_of_ours_is_trained_on(case, tmp_path):
    """With its weights and its vocabulary, whatever it reads now."""
    first = estimator(case, steps=5).fit(text())
    folder = first.save(tmp_path / "first")
    same = LanguageModel.from_pretrained(folder, **EXACT)
    assert same.evaluate(text(30, seed=2)) == first.evaluate(text(30, seed=2))
    other = text(200, seed=1) + "zzyx\n"
    made = LanguageModel(settings={"pretrained": str(folder), "learning_rate": 3e-3}, **{**QUICK, "steps": 40}).fit(other)
    assert made.engine_.spelling.to_dict() == first.engine_.spelling.to_dict()
    assert made.perplexity(other) < first.perplexity(other)
    loaded = weft.load(made.save(tmp_path / "second"), **EXACT)
    assert loaded.evaluate(other) == made.evaluate(other)


def test_a_state_goes_on_in_training_too(tmp_path):
    folder = estimator("rnn").fit(text()).save(tmp_path / "rnn")
    made = LanguageModel(settings={"pretrained": str(folder), "block": 8}, **QUICK).fit(text())
    assert made.engine_.model.carried is not None


def test_classifiers_read_what_was_trained_on(tmp_path):
    folder = LanguageModel(settings=SMALL, **QUICK).fit(PARAGRAPH).save(tmp_path / "lm")
    made = TextClassifier(settings={"pretrained": str(folder), "maximum_length": 32}, **QUICK).fit(
        ["it was", "the age"] * 8, ["x", "y"] * 8
    )
    assert made.model == "cnn" and made._rung().name == "ulmfit" and made.predict_proba(["it was é"]).shape == (1, 2)
    assert np.array_equal(weft.load(made.save(tmp_path / "c"), **EXACT).predict_proba(["it"]), made.predict_proba(["it"]))


# what a model sees, and what it may say


def test_of_a_long_prompt_the_last_tokens_are_read(start, caplog):
    spelling, long = start.engine_.spelling, PARAGRAPH * 2
    found = start.generate(long, tokens=3, search=Greedy())
    assert "1 of 1 prompts are longer than the 64 tokens seen at once: their last ones are read" in caplog.messages
    ids = spelling.prompt(long)[-64:]
    given = torch.from_numpy(ids)[None]
    reading = start.engine_.model.start(Batch(given, torch.ones_like(given, dtype=torch.bool), None, torch.zeros(1, dtype=torch.int64)))
    assert found.startswith(spelling.text([int(reading.scores.argmax())]))


def test_rows_of_the_table_that_are_no_tokens_are_never_said(tmp_path):
    folder = copied(tmp_path, vocab_size=281 + 7)
    arrays = load_file(folder / "model.safetensors")
    table = arrays["transformer.wte.weight"]
    arrays["transformer.wte.weight"] = torch.cat([table, 50 * table[:7]])  # which a search would choose
    save_file(arrays, folder / "model.safetensors")
    made = LanguageModel.from_pretrained(folder, **EXACT)
    for search in (Greedy(), Sample(), Beam(2)):
        assert len(made.continuations(["it was"], tokens=8, search=search)[0][0].tokens) <= 8
    loaded = weft.load(made.save(tmp_path / "model"), **EXACT)
    assert loaded.perplexity(PARAGRAPH) == made.perplexity(PARAGRAPH)


# what is refused


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    where = tmp_path_factory.mktemp("others")
    classifier = TextClassifier("naive-bayes").fit(["a b", "c d"] * 4, ["x", "y"] * 4).save(where / "classifier")
    counted = LanguageModel("ngram").fit(PARAGRAPH).save(where / "counted")
    window = estimator("ngram-neural").fit(text()).save(where / "window")
    (where / "empty").mkdir()
    made = {"BERT": MINILM, "GPT": GPT2, "CLASSIFIER": classifier, "COUNTED": counted, "WINDOW": window, "EMPTY": where / "empty"}
    return {name: str(folder) for name, folder in made.items()}


@pytest.mark.parametrize(
    ("folder", "settings", "said"),
    [
        ("BERT", {}, r"minilm: is an encoder \(bert\), which foretells no next token; a gpt2 does"),
        ("CLASSIFIER", {}, "holds a TextClassifier; a language model was expected"),
        ("COUNTED", {}, "is a language model by counts"),
        ("EMPTY", {}, "is no checkpoint: it has no config.json"),
        ("", {}, "pretrained: names no language model"),
        ("nothing", {}, "nothing: is no folder and no pretrained model"),
        ("GPT", {"block": 65}, "block: must be at most the 64 positions of .*gpt2, not 65"),
        ("GPT", {"block": 0}, "block: must be at least 1, not 0"),
        ("GPT", {"tokenizer": "bpe"}, "tokenizer: no such setting for this model"),
        ("GPT", {"layers": 3}, "layers: no such setting for this model"),
        ("GPT", {"tune": "head"}, "tune: 'head' leaves nothing to learn: the output weights are the embeddings"),
        ("WINDOW", {"layer_dropout": 0.1}, "layer_dropout: is not of the encoder 'window'"),
    ],
)
def test_what_cannot_be_is_refused(folders, folder, settings, said):
    with pytest.raises(InputError, match=said) as caught:
        LanguageModel(settings={"pretrained": folders.get(folder, folder), **settings}, **QUICK).fit(PARAGRAPH)
    assert "\n" not in str(caught.value)


def test_from_nothing_it_is_said_too():
    with pytest.raises(InputError, match="tune: 'head' leaves nothing to learn"):
        LanguageModel("gpt", {"tune": "head", "block": 16}, **QUICK).fit(PARAGRAPH)
    with pytest.raises(InputError, match="text: has 3 tokens, its ends among them: too few for one block of 64"):
        LanguageModel(settings={"pretrained": GPT2}, **QUICK).fit("a")


def test_an_encoder_that_is_to_be_loaded():
    with pytest.raises(InputError, match=r"holds a pretrained encoder \(bert\): weft train DATA --from .*minilm makes a model of it"):
        weft.load(MINILM)


def test_tokenizers_that_do_not_go_with_the_network_are_refused(tmp_path):
    folder = copied(tmp_path)
    words = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({**words, "more": len(words)}))
    with pytest.raises(InputError, match="its tokenizer has 282 tokens, and the weights are of 281: they do not go together"):
        LanguageModel.from_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({name.replace("endof", "end of"): number for name, number in words.items()}))
    with pytest.raises(InputError, match=r"vocab.json: the special token '<\|endoftext\|>' is not in the vocabulary"):
        LanguageModel.from_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end oftext|>"}))
    assert LanguageModel.from_pretrained(folder).engine_.spelling.end == 280


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda kept: kept.update(special={**kept["special"], "end": "A"}), "ends texts with the id 32, the network with 280"),
        (lambda kept: kept.update(special={**kept["special"], "end": None}), "has no token that ends a text: it is an encoder's"),
        (lambda kept: kept["tokens"].append("more"), "has 282 tokens, the end among them, but the network foretells 281"),
    ],
)
def test_a_spoilt_description_is_refused(start, spoil, said):
    arrays, described, words = start.engine_.saved()
    words = json.loads(json.dumps(words))
    spoil(words["tokenizer"])
    with pytest.raises(InputError, match=f"tokenizer.json: {said}"):
        type(start.engine_)(start.engine_.settings, start.engine_.compute, 0).take(described["network"], words, arrays)
