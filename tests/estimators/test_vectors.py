"""Word vectors as a start: rows against the file's own, what is drawn for the rest, what is said, kept and refused."""

from __future__ import annotations

import json
import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reviews import reviews
from sklearn.base import clone
from tiny import VECTORS, WORDS, corpus, network

import weft
from weft import TextClassifier
from weft.errors import InputError
from weft.estimators.vectors import Vectors, sentence
from weft.training.optimizers import make_optimizer
from weft.vectors.keyed import KeyedVectors

TOKENS = ["<pad>", "<unk>", "film", "Great", "DULL", "zzyx", "plot"]
SMALL = {"filters": 4, "epochs": 2, "learning_rate": 0.02}
MODES = ("static", "non-static", "multichannel")


def vectors_of(words: list[str], size: int = 6, scale: float = 0.3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, (len(words), size)).astype(np.float32)


KNOWN = ["the", "film", "dull", "Great", "great", "superb", "lovely", "awful", "weak", "plot", "never-asked"]


@pytest.fixture
def file(tmp_path):
    """A .vec that has some of the reviews' words, and its vectors by word."""
    path, rows = tmp_path / "small.vec", vectors_of(KNOWN)
    KeyedVectors(KNOWN, rows).save(path)
    return path, dict(zip(KNOWN, rows))


def texts_and_labels() -> tuple[list[str], list[str]]:
    texts, labels = zip(*reviews(40))
    return list(texts), list(labels)


def fitted(vectors, settings=None, model="cnn", **options):
    options = {"validation_fraction": 0, "precision": "fp32", "threads": 1, **options}
    small = SMALL if model == "cnn" else {"epochs": 2}
    return TextClassifier(model, {**small, **(settings or {})}, vectors=vectors, **options).fit(*texts_and_labels())


class Subwords:
    """Answers for every word: its length in every place."""

    def vector(self, word: str) -> np.ndarray:
        return np.full(6, len(word), np.float32)


# rows


def test_each_token_as_it_stands_then_in_lower_case(file):
    path, rows = file
    found = Vectors(path).found(TOKENS)
    expected = [None, None, rows["film"], rows["Great"], rows["dull"], None, rows["plot"]]  # "Great" itself, before "great"
    assert found.known.tolist() == [row is not None for row in expected]
    for row, known in zip(found.rows, expected):
        assert np.array_equal(row, np.zeros(6) if known is None else known)
    assert found.facts["words"] == 5 and found.facts["found"] == 4 and found.facts["size"] == 6 and found.facts["by_subwords"] == 0


def test_in_memory_they_are_what_they_are_in_a_file(file):
    path, _ = file
    given = KeyedVectors.load(path)
    one, other = Vectors(given).found(TOKENS), Vectors(path).found(TOKENS)
    assert np.array_equal(one.rows, other.rows) and np.array_equal(one.known, other.known)
    assert Vectors(given).dimensions() == Vectors(path).dimensions() == 6


def test_a_vector_for_the_unknown_token_is_used_and_not_counted():
    given = KeyedVectors(["<unk>", "<pad>", "film"], vectors_of(["", "", ""]))
    found = Vectors(given).found(TOKENS)
    assert np.array_equal(found.rows[1], given.vectors[0]) and found.known.tolist() == [False, True, True, False, False, False, False]
    assert (found.facts["found"], found.facts["words"]) == (1, 5)


def test_subwords_answer_for_every_word(caplog):
    given = SimpleNamespace(key_to_index={"film": 0, "dull": 1}, vectors=vectors_of(["film", "dull"]), subwords=Subwords())
    with caplog.at_level(logging.INFO, "weft"):
        found = Vectors(given).found(TOKENS)
    assert found.known.tolist() == [False, False, True, True, True, True, True]
    assert np.array_equal(found.rows[4], given.vectors[1])  # DULL, in lower case
    assert found.rows[3].tolist() == [5.0] * 6 and found.rows[5].tolist() == [4.0] * 6
    assert "the vectors: 5 of 5 words found (100%), 3 of them by their subwords, 6-dimensional" in caplog.text


def test_what_is_not_found_is_drawn_with_the_variance_of_what_is():
    words = [f"w{number}" for number in range(6000)]
    given = SimpleNamespace(key_to_index={word: row for row, word in enumerate(words[:2000])}, vectors=vectors_of(words[:2000], 8) + 0.7)
    found = Vectors(given).found(["<pad>", "<unk>", *words])
    start = found.start(seed=3)
    assert np.array_equal(start[2:2002], given.vectors)
    drawn, variance = start[2002:], given.vectors.var()
    assert abs(drawn.var() / variance - 1) < 0.02  # 32,000 draws: σ of the estimate is 0.5 %
    assert abs(drawn.mean()) < 4 * np.sqrt(variance / drawn.size)
    bound = np.sqrt(3 * variance)
    assert drawn.min() >= -bound and drawn.max() <= bound and drawn.max() > 0.99 * bound  # U(−a, a)
    assert np.array_equal(start, found.start(seed=3)) and not np.array_equal(start, found.start(seed=4))
    assert not found.rows[2002:].any()  # which stays as it was for the next


def test_a_file_is_read_once_for_one_vocabulary_and_again_when_it_changes(file, monkeypatch):
    path, rows = file
    loads = []
    real = KeyedVectors.load.__func__
    monkeypatch.setattr(
        KeyedVectors, "load", classmethod(lambda cls, *given, **options: loads.append(given) or real(cls, *given, **options))
    )
    first = Vectors(path).found(TOKENS)
    assert Vectors(path).found(list(TOKENS)) is first and len(loads) == 1
    Vectors(path).found(TOKENS[:-1])
    assert len(loads) == 2
    KeyedVectors(list(rows), 2 * np.stack(list(rows.values()))).save(path)
    again = Vectors(path).found(TOKENS)
    assert np.array_equal(again.rows, 2 * first.rows) and again.facts["sha256"] != first.facts["sha256"]


@pytest.mark.parametrize("found,words,share", [(12345, 15000, "82%"), (14999, 15000, "99%"), (3, 3, "100%"), (1, 1000, "0%")])
def test_what_is_said(found, words, share):
    facts = {"file": "vectors.vec", "found": found, "words": words, "by_subwords": 0, "size": 100}
    assert sentence(facts) == f"vectors.vec: {found:,} of {words:,} words found ({share}), 100-dimensional"


# in a network


@pytest.mark.parametrize("mode", MODES)
def test_the_table_starts_from_them(mode):
    made = network(f"cnn, {mode}")
    embedding, vocabulary = made.model.encoder.embedding, made.tokenizer.vocabulary
    tables = {"multichannel": lambda: [embedding.fixed.weight, embedding.tuned.weight]}.get(mode, lambda: [embedding.weight])()
    for table in tables:
        for word in WORDS[:40]:
            assert np.array_equal(table[vocabulary.id(word)].detach(), VECTORS.vectors[VECTORS.key_to_index[word]])
        assert not table[0].any()
        rest = table.detach()[[vocabulary.id(word) for word in WORDS[40:]]]
        assert rest.abs().max() > 0 and torch.equal(rest, tables[0][[vocabulary.id(word) for word in WORDS[40:]]].detach())
    assert made.settings.network["embedding_size"] == made.settings.flat["embedding_size"] == 12


def test_other_weights_do_not_depend_on_the_vectors():
    one, other = network("lstm, static"), network("lstm, multichannel")
    plain = network("lstm", embedding_size=12)
    same = {name: tensor for name, tensor in plain.model.state_dict().items() if "embedding" not in name}
    assert len(same) > 4
    for name, tensor in same.items():
        assert torch.equal(one.model.state_dict()[name], tensor)
    assert other.model.state_dict().keys() - {"encoder.embedding.fixed.weight", "encoder.embedding.tuned.weight"} == same.keys()


@pytest.mark.parametrize("rung", ["cnn", "bag", "lstm", "transformer"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sparse", [False, True])
def test_what_training_changes(rung, mode, sparse, monkeypatch):
    """Static: nothing of the table, which no optimizer holds and no count counts. Multichannel: one of two."""
    from weft.estimators.engine import Budget

    monkeypatch.setattr("weft.estimators.engine.LAZY_ROWS", 1 if sparse else 10**9)
    made = network(f"{rung}, {mode}")
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    tables = [name for name in before if name.startswith("encoder.embedding")]
    held = {id(parameter) for group in make_optimizer(made.model).param_groups for parameter in group["params"]}
    trained = {name for name, parameter in made.model.named_parameters() if id(parameter) in held}
    made.fit(corpus(), None, Budget(steps=6))
    changed = {name for name, tensor in made.model.state_dict().items() if not torch.equal(tensor, before[name])}
    expected = {"static": set(), "non-static": {"encoder.embedding.weight"}, "multichannel": {"encoder.embedding.tuned.weight"}}[mode]
    assert changed & set(tables) == expected == trained & set(tables)
    assert changed == trained
    rest = sum(before[name].numel() for name in before if name not in tables)
    assert made.parameters() == rest + (0 if mode == "static" else before[tables[0]].numel())


def test_hashed_ngrams_are_learnt_beside_the_vectors_and_left_out_of_static_ones():
    made = network("bag, multichannel")
    embedding, count = made.model.encoder.embedding, len(made.tokenizer.vocabulary)
    assert made.tokenizer.buckets == 64 == len(embedding.fixed.weight) - count
    assert not embedding.fixed.weight[count:].any() and embedding.tuned.weight[count:].all()
    made = network("bag, static")
    assert made.tokenizer.ngrams == 1 and len(made.model.encoder.embedding.weight) == count
    model = fitted(KeyedVectors(KNOWN, vectors_of(KNOWN)), {"vectors_mode": "static"}, "bag")
    assert model.engine_.tokenizer.ngrams == 1
    with pytest.raises(InputError, match="n-grams have to be learnt"):
        fitted(KeyedVectors(KNOWN, vectors_of(KNOWN)), {"vectors_mode": "static", "ngrams": 2}, "bag")


# in an estimator and its folder


@pytest.mark.parametrize("mode", MODES)
def test_a_folder_needs_no_file(file, mode, tmp_path, caplog):
    path, _ = file
    with caplog.at_level(logging.INFO, "weft"):
        model = fitted(path, {"vectors_mode": mode})
    words = len(model.engine_.tokenizer.vocabulary) - 2
    found = len({token for token in model.engine_.tokenizer.vocabulary.tokens if token in KNOWN})
    said = f"small.vec: {found} of {words} words found ({100 * found // words}%), 6-dimensional"
    assert said in caplog.text and 5 < found < words
    folder = model.save(tmp_path / "model")
    path.unlink()
    loaded = weft.load(folder, precision="fp32", threads=1)
    texts, _ = texts_and_labels()
    assert np.array_equal(loaded.decision_function([*texts, "unseen words"]), model.decision_function([*texts, "unseen words"]))
    assert loaded.parameters_ == model.parameters_
    config = json.loads((folder / "config.json").read_text())
    facts = config["engine"]["vectors"]
    assert (facts["file"], facts["found"], facts["words"], facts["mode"], facts["size"]) == ("small.vec", found, words, mode, 6)
    assert len(facts["sha256"]) == 64
    card = (folder / "README.md").read_text()
    assert f"| word vectors | {said}, {mode}; sha256 {facts['sha256'][:16]} |" in card
    again = loaded.save(tmp_path / "again")
    assert json.loads((again / "config.json").read_text())["engine"] == config["engine"]
    with pytest.raises(InputError, match=r"small.vec: cannot be read"):
        clone(loaded).fit(*texts_and_labels())  # which would need it


def test_vectors_in_memory_are_saved_as_what_they_gave(tmp_path):
    model = fitted(KeyedVectors(KNOWN, vectors_of(KNOWN)))
    folder = model.save(tmp_path / "model")
    assert json.loads((folder / "config.json").read_text())["parameters"]["vectors"] is None
    texts, _ = texts_and_labels()
    assert np.array_equal(weft.load(folder, precision="fp32", threads=1).predict_proba(texts), model.predict_proba(texts))
    assert np.array_equal(clone(model).fit(*texts_and_labels()).predict_proba(texts), model.predict_proba(texts))


def test_the_size_follows_the_file_or_is_refused(file):
    path, _ = file
    assert fitted(path).engine_.model.config.embedding_size == 6
    assert fitted(path, {"embedding_size": "6"}).engine_.model.config.embedding_size == 6
    with pytest.raises(InputError, match=r"embedding_size: the vectors are 6-dimensional, so it cannot be 50"):
        fitted(path, {"embedding_size": 50})


def test_seconds_a_step_are_measured_with_them(file):
    path, _ = file
    texts, labels = texts_and_labels()
    model = TextClassifier("cnn", SMALL, vectors=path, precision="fp32", threads=1)
    seconds, steps = model.seconds_per_step(texts, labels, (texts[:4], labels[:4]))
    assert seconds > 0 and steps == 2


@pytest.mark.parametrize("tokenizer", ["hashing", "bytes", "characters", "bpe", "wordpiece"])
def test_tokenizers_without_words_are_refused(file, tokenizer):
    with pytest.raises(InputError, match=rf"tokenizer: a '{tokenizer}' tokenizer does not cut .* words and whitespace do"):
        fitted(file[0], {"tokenizer": tokenizer})


def test_whitespace_has_words(file):
    assert fitted(file[0], {"tokenizer": "whitespace"}).engine_.vectors_facts["found"] > 5


@pytest.mark.parametrize("mode", ["static", "multichannel"])
def test_nothing_given_there_is_nothing_to_keep(mode):
    with pytest.raises(InputError, match=f"vectors_mode: '{mode}' keeps .* add --vectors FILE"):
        fitted(None, {"vectors_mode": mode})
    with pytest.raises(InputError, match=r"vectors_mode: there is no 'statc'.*non-static, static, multichannel"):
        fitted(None, {"vectors_mode": "statc"})


def test_files_that_do_not_serve_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.vec: cannot be read"):
        fitted(tmp_path / "none.vec")
    with pytest.raises(InputError, match="is a folder"):
        fitted(str(tmp_path))
    with pytest.raises(InputError, match="vectors: must be a file of word vectors or KeyedVectors, not 3"):
        fitted(3)
    path = tmp_path / "other.vec"
    KeyedVectors(["mot", "phrase", "lettre", "virgule"], vectors_of(["", "", "", ""])).save(path)
    with pytest.raises(InputError, match=r"other\.vec: holds none of the \d+ words of the data; its first are 'mot', 'phrase', 'lettre'"):
        fitted(path)
    (tmp_path / "broken.vec").write_text("2 3\nfilm 1 2 3\n")
    with pytest.raises(InputError, match=r"broken\.vec"):
        fitted(tmp_path / "broken.vec")
    given = SimpleNamespace(key_to_index={"film": 0}, vectors=np.array([[0.0, np.nan]], np.float32), subwords=None)
    with pytest.raises(InputError, match="the vector of 'film' has numbers that are not finite"):
        fitted(given)


@pytest.mark.parametrize("model", ["majority", "naive-bayes", "svm", "logistic", "perceptron"])
def test_baselines_have_no_use_for_them(file, model):
    with pytest.raises(InputError, match=f"vectors: '{model}' starts from no word vectors; --vectors is for the neural models"):
        TextClassifier(model, vectors=file[0]).fit(*texts_and_labels())


def test_a_copy_of_the_file_is_the_same_vectors(file, tmp_path):
    path, _ = file
    shutil.copy(path, tmp_path / "copy.vec")
    assert Vectors(path).digest == Vectors(tmp_path / "copy.vec").digest
    assert Vectors(KeyedVectors(KNOWN, vectors_of(KNOWN))).digest == Vectors(KeyedVectors(KNOWN, vectors_of(KNOWN))).digest
    assert Vectors(KeyedVectors(KNOWN, vectors_of(KNOWN))).digest != Vectors(KeyedVectors(KNOWN, vectors_of(KNOWN, seed=1))).digest
