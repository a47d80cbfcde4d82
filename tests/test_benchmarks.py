"""The benchmarks run from their arguments to their JSON, on what is made here; what they time is not looked at."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path

import pytest
import torch

from weft.data import datasets
from weft.data.examples import Example, Splits, Table
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
