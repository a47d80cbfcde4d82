"""The benchmarks run from their arguments to their JSON, on what is made here; what they time is not looked at."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from weft.data import datasets
from weft.data.examples import Example, Splits, Table
from weft.estimators.text import TextClassifier
from weft.files import read_json

FOLDER = Path(__file__).parents[1] / "benchmarks"


def table(count: int, seed: int) -> Table:
    """Texts of 1 to 20 words, of which one tells the class."""
    draw = random.Random(seed)
    texts = [" ".join(f"w{draw.randrange(30)}" for _ in range(draw.randrange(1, 20))) for _ in range(count)]
    return Table(
        [Example(f"{text} {'good' if i % 2 else 'bad'}", str(i % 2)) for i, text in enumerate(texts)], "classification", "made", {}, []
    )


@pytest.fixture
def classify(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(datasets, "load", lambda name: Splits(table(300, 0), table(60, 1), table(60, 2)))
    yield importlib.import_module("classify")
    for name in ("classify", "peers"):
        sys.modules.pop(name, None)


def test_length_buckets_from_arguments_to_json(classify, monkeypatch, tmp_path, capsys):
    out = tmp_path / "folder" / "results.json"
    monkeypatch.setattr(sys, "argv", ["classify.py", "--quick", "--only", "buckets", "--runs", "1", "--threads", "1", "--out", str(out)])
    classify.main()
    results, printed = read_json(out), capsys.readouterr().out
    assert {"processor", "cores", "torch", "precision"} <= set(results["machine"])
    rows = results["buckets"]
    assert [row["what"] for row in rows] == [
        f"{model}: {what}" for model in ("bilstm", "transformer") for what in ("training", "prediction")
    ]
    for row in rows:
        bucketed, random_order = row["padding"]
        assert 0 <= bucketed < random_order < 1
        assert 0 < row["least"] <= row["ratio"] <= row["most"]
        assert f"| {row['what']} | tokens/s |" in printed


def test_a_part_that_is_not_there_is_refused(classify, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["classify.py", "--only", "bags"])
    with pytest.raises(SystemExit):
        classify.main()
    assert "bags" in capsys.readouterr().err


def test_a_ratio_is_the_median_of_the_turns(classify):
    row = classify.compared("made", "x/s", [10.0, 30.0, 20.0], [10.0, 10.0, 5.0], ("a", "b"))
    assert (row["first"], row["second"]) == (20, 10)
    assert (row["ratio"], row["least"], row["most"]) == (3, 1, 4)


def test_two_sides_take_turns_and_the_first_turn_warms_up(classify):
    told: list[str] = []

    def side(name):
        def measure():
            told.append(name)
            return float(len(told))

        return measure

    assert classify.turns(side("a"), side("b"), 2) == ([3, 5], [4, 6])
    assert told == ["a", "b"] * 3


def test_keyed_vectors_beside_gensim_from_arguments_to_json(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    peers, keyed = importlib.import_module("peers"), importlib.import_module("keyed")
    try:
        if not peers.installed("gensim"):
            pytest.skip("gensim's environment is made by the first run of benchmarks/keyed.py")
        out = tmp_path / "keyed.json"
        monkeypatch.setattr(sys, "argv", ["keyed.py", "--quick", "--runs", "1", "--threads", "1", "--out", str(out)])
        keyed.main()
    finally:
        for name in ("keyed", "peers"):
            sys.modules.pop(name, None)
    results, printed = read_json(out), capsys.readouterr().out
    assert "answers differ" not in printed
    ours, theirs = results["turns"][0]
    assert len(ours["found"]) == 64 and all(len(found) == 10 for found in ours["found"]) and ours["found"] == theirs["found"]
    assert [row["what"] for row in results["table"]] == [
        ".bin loading, 3,000 × 20",
        ".vec loading, 500 × 20",
        "single query",
        "64 queries",
        "start-up",
        "first query",
        "peak memory",
    ]


def test_the_chain_beside_pytorch_crf_from_arguments_to_json(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    peers, crf = importlib.import_module("peers"), importlib.import_module("crf")
    try:
        if not peers.installed("pytorch-crf"):
            pytest.skip("pytorch-crf's environment is made by the first run of benchmarks/crf.py")
        monkeypatch.setattr(crf, "TAGS", (5,))
        out = tmp_path / "crf.json"
        monkeypatch.setattr(sys, "argv", ["crf.py", "--quick", "--runs", "1", "--threads", "1", "--out", str(out)])
        crf.main()
    finally:
        for name in ("crf", "peers"):
            sys.modules.pop(name, None)
    results, printed = read_json(out), capsys.readouterr().out
    batches = ["5 tags, 32 × 40 tokens", "5 tags, 32 × 1 to 80 tokens"]
    parts = [f"{what}: {part}" for what in batches for part in ("loss and gradient", "Viterbi")]
    assert [row["what"] for row in results["table"]] == [part for part in parts for _ in ("clock", "processor")]
    assert list(results["differences"]) == batches
    for found in results["differences"].values():  # the peer's sums are float32
        assert found["loss"] < 1e-5 and found["logits"] < 1e-2 and found["transitions"] < 1e-2 and found["decoded"] == 0
    assert "0 of 32 sentences decoded otherwise" in printed


def test_recurrent_cells_beside_torchs_from_arguments_to_json(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    threads = torch.get_num_threads()
    recurrent = importlib.import_module("recurrent")
    try:
        out = tmp_path / "recurrent.json"
        monkeypatch.setattr(sys, "argv", ["recurrent.py", "--quick", "--threads", "1", "--out", str(out)])
        recurrent.main()
    finally:
        sys.modules.pop("recurrent", None)
        torch.set_num_threads(threads)
    table, printed = read_json(out)["table"], capsys.readouterr().out
    assert [row["what"] for row in table] == [name for name, _, _ in recurrent.CELLS]
    assert all(0 < row["least"] <= row["ratio"] <= row["most"] for row in table)
    assert "LSTM, coupled: " in printed


@pytest.fixture
def tagging(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("tagging")
    for name in ("tagging", "peers"):
        sys.modules.pop(name, None)


def tagged(count: int, seed: int) -> Table:
    """Sentences of 1 to 9 words; those with a capital are persons, of two words where two follow one another."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        words = [draw.choice(["the", "a", "saw", "and", "a-very-long-word", "Ann", "Bob", "Eve"]) for _ in range(draw.randrange(1, 10))]
        tags = ["O" if not word[0].isupper() else "B-person" for word in words]
        rows.append(Example(" ".join(words), tuple(tags), line=number + 1, tokens=tuple(words)))
    return Table(rows, "spans", "made", {}, [])


def test_a_difference_of_seeds_and_sentences_and_its_interval(tagging):
    draw = np.random.default_rng(0)
    first = np.stack([draw.integers(0, 3, (5, 40)), np.full((5, 40), 4)], -1).astype(float)
    second = np.stack([draw.integers(0, 3, (3, 40)), np.full((3, 40), 4)], -1).astype(float)
    found, low, high = tagging.difference(first, second, resamples=4000)
    assert found == pytest.approx(100 * (first[..., 0].sum(1) / 160).mean() - 100 * (second[..., 0].sum(1) / 160).mean())
    gaps = []  # the same, drawn one by one
    for _ in range(4000):
        rows = draw.integers(0, 40, 40)
        sides = [
            [each[rows, 0].sum() / each[rows, 1].sum() for each in side[draw.integers(0, len(side), len(side))]] for side in (first, second)
        ]
        gaps.append(100 * (np.mean(sides[0]) - np.mean(sides[1])))
    assert [low, high] == pytest.approx(np.percentile(gaps, [2.5, 97.5]), abs=0.5)
    assert tagging.difference(first[:1], first[:1], resamples=200) == (0, 0, 0)


@pytest.mark.slow  # Flair takes minutes
def test_taggers_beside_flair_from_arguments_to_json(tagging, monkeypatch, tmp_path, capsys):
    if not tagging.peers.installed("flair"):
        pytest.skip("Flair's environment is made by the first run of benchmarks/tagging.py")
    splits = Splits(tagged(80, 0), tagged(20, 1), tagged(20, 2))
    monkeypatch.setattr(datasets, "load", lambda name: splits)
    monkeypatch.setitem(tagging.OUR_BEST, "wnut17", {"epochs": 1})
    monkeypatch.setitem(tagging.FLAIR_BEST, "wnut17", {**tagging.RATE, "max_epochs": 1})
    out, threads = tmp_path / "tagging.json", torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["tagging.py", "--quick", "--data", "wnut17", "--threads", "1", "--quality", "1,2", "--out", str(out)])
    tagging.main()
    torch.set_num_threads(threads)
    results, printed = read_json(out), capsys.readouterr().out
    ratios = [row for row in results["rows"] if "ratio" in row]
    assert len(ratios) == 10 and all(0 < row["least"] <= row["ratio"] <= row["most"] for row in ratios)
    ours, theirs = (results["rows"][-1][side] for side in ("first", "second"))
    words = len({word for row in splits.train.examples for word in row.tokens})
    assert ours == pytest.approx(theirs, rel=0.02) and theirs > 256 * 4 * 2 * (150 + 256) + 100 * words
    (quality,) = results["quality"]
    assert quality["seeds"] == [1, 2] and len(quality["scores"]["theirs"]["test"]) == 2
    assert f"difference {quality['difference']:+.2f} points" in printed


@pytest.mark.slow  # Flair takes minutes
def test_flairs_loops_and_what_stands_for_them_give_the_same_weights(tagging, tmp_path):
    if not tagging.peers.installed("flair"):
        pytest.skip("Flair's environment is made by the first run of benchmarks/tagging.py")
    parts = {part: tagging.columns(tagged(count, seed)) for part, count, seed in (("train", 60, 0), ("dev", 10, 1), ("test", 10, 2))}
    files = tagging.written(parts, tmp_path)
    training = {**tagging.RATE, "optimizer": "SGD", "learning_rate": 0.1, "max_epochs": 2, "hidden_size": 16}
    answers = [
        tagging.peers.run(
            "flair", "flair_tagger.py", tagging.request("wnut17", files, training, seed=1, repeats=1, faster=faster), threads=1
        )
        for faster in (False, True)
    ]
    assert [answer["arithmetic"] for answer in answers] == ["flair.models.sequence_tagger_utils.crf", "flair_faster"]
    assert answers[0]["magnitude"] == pytest.approx(answers[1]["magnitude"], rel=1e-8)  # 4e-11 apart; a term left out, 4e-6
    assert answers[0]["dev_scores"] == answers[1]["dev_scores"] and answers[0]["predictions"] == answers[1]["predictions"]


@pytest.fixture
def seq2seq(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    threads = torch.get_num_threads()
    module = importlib.import_module("seq2seq")
    monkeypatch.setattr(datasets, "load", lambda name: Splits(pairs(60, 0), pairs(8, 1), pairs(8, 2)))
    monkeypatch.setattr(module, "SHAPE", {"layers": 2, "size": 16, "heads": 2, "inner": 32})
    yield module
    torch.set_num_threads(threads)
    for name in ("seq2seq", "growth", "peers"):
        sys.modules.pop(name, None)


def pairs(count: int, seed: int) -> Table:
    """Sources of 1 to 9 words, whose targets are the same words backwards."""
    draw = random.Random(seed)
    rows = [[f"w{draw.randrange(30)}" for _ in range(draw.randrange(1, 10))] for _ in range(count)]
    return Table([Example(" ".join(row), " ".join(reversed(row))) for row in rows], "translation", "made", {}, [])


def test_cached_decoding_and_growing_lengths_from_arguments_to_json(seq2seq, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(seq2seq.growth, "SIZE", 16)
    out, kept = tmp_path / "seq2seq.json", tmp_path / "weights.npz"
    arguments = ["seq2seq.py", "--quick", "--only", "cache,cost", "--threads", "1", "--keep", str(kept), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    seq2seq.main()
    results, printed = read_json(out), capsys.readouterr().out
    (row,) = results["cache"]
    assert row["what"] == "12 tokens, 2 sources" and 0 < row["least"] <= row["ratio"] <= row["most"] and row["same"] == 1
    cost = results["cost"]
    assert list(cost["seconds"]) == list(cost["exponents"]) == ["none", "attention", "self"]
    assert [(cell["n"], cell["m"]) for cell in cost["seconds"]["attention"]] == [(32, 32), (32, 64), (64, 32), (64, 64)]
    assert "| self-attention, n² |" in printed and kept.is_file() and "training" not in results


def test_exponents_are_of_what_grows(seq2seq):
    growth, lengths = seq2seq.growth, (64, 128, 256, 512)
    grid = [(n, m) for n in lengths for m in lengths]
    without = {(n, m): 5 + 2 * n + 3 * m for n, m in grid}
    assert growth.exponents(without, None, lengths) == pytest.approx({"n": 1, "m": 1, "n = m": 1})
    whole = {(n, m): 5 + 2 * n + 3 * m + 0.1 * n * m for n, m in grid}
    control = {(n, m): 5 + 2 * n + 3 * m + 0.1 * growth.SHORT * m for n, m in grid}
    assert growth.exponents(whole, control, lengths) == pytest.approx({"n": 1, "m": 1, "n = m": 2})
    assert growth.together(without, lengths) == 0
    assert growth.together(whole, lengths) == pytest.approx(0.1 * 448 * 448 / whole[512, 512])
    alone = {(n, n): 7 * n + 0.01 * n**2 for n in lengths}
    cut = {(n, n): 7 * n + 0.01 * n * growth.SHORT for n in lengths}
    assert growth.exponents(alone, cut, lengths) == pytest.approx({"n = m": 2})
    assert growth.exponents(cut, cut, lengths) == {"n = m": None}


@pytest.mark.slow  # both peers take a minute to start
def test_sequence_to_sequence_beside_joeynmt_and_marian_from_arguments_to_json(seq2seq, monkeypatch, tmp_path, capsys):
    if not all(map(seq2seq.peers.installed, ("joeynmt", "transformers"))):
        pytest.skip("the peers' environments are made by the first run of benchmarks/seq2seq.py")
    out = tmp_path / "seq2seq.json"
    monkeypatch.setattr(
        sys, "argv", ["seq2seq.py", "--quick", "--only", "training,decoding", "--turns", "1", "--threads", "1", "--out", str(out)]
    )
    seq2seq.main()
    results, printed = read_json(out), capsys.readouterr().out
    rows = [*results["training"], *results["decoding"]]
    assert all(0 < row["least"] <= row["ratio"] <= row["most"] for row in rows if "ratio" in row)
    told = {(row["sides"][1], row["what"]): (row["first"], row["second"]) for row in rows if "ratio" not in row}
    ours, theirs = told["JoeyNMT 2.3", "parameters"]
    assert ours == theirs
    losses = results["losses"]  # one network: 3e-7 apart
    assert list(losses) == ["weft", "joeynmt", "marian"] and list(losses.values()) == pytest.approx([losses["weft"]] * 3, rel=1e-5)
    assert results["versions"]["joeynmt"]["joeynmt"] == "2.3.0" and [row["what"] for row in results["startup"]] == ["start-up: imports"] * 2
    assert "| training, fp32 | tokens/s |" in printed


def test_distillation_from_arguments_to_json(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    distillation = importlib.import_module("distillation")
    monkeypatch.setattr(datasets, "tables", lambda name: {"train": table(200, 0), "dev": table(40, 1), "test": table(40, 2)})
    monkeypatch.setattr(distillation, "settings_of", lambda model: {"embedding_size": 8, "filters": 4})
    arguments = ["--quick", "--teacher", "gru", "--students", "cnn", "--threads", "1", "--out", str(tmp_path)]
    try:
        monkeypatch.setattr(sys, "argv", ["distillation.py", *arguments, "--seeds", "2"])
        distillation.main()
        monkeypatch.setattr(TextClassifier, "fit", None)  # what is there is not trained again
        monkeypatch.setattr(sys, "argv", ["distillation.py", *arguments, "--seeds", "1", "--test"])
        distillation.main()
    finally:
        for name in ("distillation", "accuracy", "sides"):
            sys.modules.pop(name, None)
    results, printed = read_json(tmp_path / "distillation.json"), capsys.readouterr().out
    assert [(row["what"], row["model"]) for row in results["runs"]] == [("teacher", "gru"), ("alone", "cnn"), ("distilled", "cnn")]
    assert all(0 <= row["test"] <= 1 and row["bytes"] > 0 for row in results["runs"])
    assert [row["what"] for row in results["speed"]] == [f"cnn, fp32, beside gru in {kind}" for kind in ("fp32", "bf16")]
    assert "| distilled | cnn |" in printed and len(list((tmp_path / "models").iterdir())) == 6


def test_encoding_from_arguments_to_json(monkeypatch, tmp_path, capsys):
    """The peer answered for by ourselves: its vectors are ours, so that every cosine is 1."""
    from checkpoints import MINILM

    monkeypatch.syspath_prepend(str(FOLDER))
    encode = importlib.import_module("encode")
    made = encode.SentenceEncoder.from_pretrained(MINILM, precision="fp32", threads=1)

    def run(name, script, request, *, threads):
        assert name == "sentence-transformers" and (FOLDER / "peers" / script).is_file() and request["precision"] == "fp32"
        assert read_json(Path(request["folder"]) / "1_Pooling" / "config.json")["pooling_mode_mean_tokens"]
        np.save(request["vectors"], made.encode(request["texts"]))
        return {"startup": 1.0, "seconds": [9.0, 0.5]}

    monkeypatch.setattr(encode.peers, "run", run)
    monkeypatch.setattr(encode.peers, "environment", lambda name: None)
    monkeypatch.setattr(encode, "has_fast_bf16", lambda kind: False)
    monkeypatch.setattr(encode, "checkpoint_folder", lambda name: MINILM)
    monkeypatch.setattr(encode.SentenceEncoder, "from_pretrained", classmethod(lambda cls, *args, **options: made))
    monkeypatch.setattr(datasets, "load", lambda name: Splits(table(80, 0), table(6, 1), None))
    out = tmp_path / "encode.json"
    monkeypatch.setattr(sys, "argv", ["encode.py", "--quick", "--threads", "1", "--out", str(out)])
    encode.main()
    rows, printed = read_json(out)["rows"], capsys.readouterr().out
    assert [row["what"] for row in rows][:2] == ["fp32 against fp32", "fp32 against fp32: smallest cosine"]
    assert rows[0]["second"] == 60 / 0.5 and rows[1]["first"] == pytest.approx(1.0, abs=1e-5)
    assert "bf16 against bf16 is left out" in printed
    for name in ("encode", "peers"):
        sys.modules.pop(name, None)
