"""Ranks: what is the identity in a run of one, who gets which rows, and `weft train` under torchrun. Contract 2 is in tests/contracts."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from linear import Linear
from safetensors.numpy import load_file
from tiny import WORDS

from weft.data.batch import Batch, pad
from weft.errors import InputError
from weft.training import distributed

CPU = torch.device("cpu")


def batch_of(count: int) -> Batch:
    return pad([np.arange(1, i % 5 + 1) for i in range(count)], np.arange(count), torch.arange(count))


def test_one_process_is_the_whole_world():
    model, batch = Linear(3), batch_of(5)
    assert (distributed.rank(), distributed.ranks(), distributed.is_main()) == (0, 1, True)
    assert distributed.wrap(model, CPU) is model
    assert distributed.shard(batch) == (batch, 1.0)
    assert distributed.sum_over_ranks({"a": 2.0}, CPU) == {"a": 2.0}
    assert distributed.agree(0.1, CPU) == 0.1
    with distributed.without_averaging(model, last=False):
        pass
    model.weight.grad = torch.ones_like(model.weight)
    distributed.exchange_rows(model)
    assert torch.equal(model.weight.grad, torch.ones_like(model.weight))


def test_without_torchrun_there_is_no_group(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with distributed.process_group(CPU):
        assert distributed.ranks() == 1


def test_a_group_of_one_is_joined_and_left(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    with distributed.process_group(CPU):
        assert torch.distributed.is_initialized()
        with distributed.process_group(CPU):  # already in it: nothing to join, nothing to leave
            pass
        assert torch.distributed.is_initialized()
        assert distributed.agree(1 / 3, CPU) == 1 / 3
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_the_ranks_share_a_batch_out(rows, ranks, monkeypatch):
    batch, taken = batch_of(rows), []
    monkeypatch.setattr(distributed, "ranks", lambda: ranks)
    for rank in range(ranks):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        mine, weight = distributed.shard(batch)
        assert len(mine) >= 1  # who has nothing keeps step with a row that does not count
        assert weight == (1.0 if rank < rows else 0.0)
        if weight:
            taken += mine.source.tolist()
            assert torch.equal(mine.targets, batch.targets[mine.source])
            assert mine.inputs.shape[1] == max(1, int(mine.mask.sum(1).max()))
            assert len(mine) in (rows // ranks, rows // ranks + 1)
    assert sorted(taken) == list(range(rows))


def test_a_checkpoint_must_be_seen_by_all(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    assert not distributed.all_see(path, CPU)
    path.touch()
    assert distributed.all_see(path, CPU)
    monkeypatch.setattr(distributed, "agree", lambda value, device: 0.0)
    with pytest.raises(InputError, match=r"checkpoint: rank 0 sees it, unlike rank 0; ranks must share"):
        distributed.all_see(path, CPU)


def test_a_rank_without_a_gpu_is_told(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.delenv("RANK", raising=False)
    assert distributed.local_device(cuda) == cuda
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.local_device(CPU) == CPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"rank 1 has no GPU: this machine has 1"):
        distributed.local_device(cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert distributed.local_device(cuda) == torch.device("cuda", 1)


def test_weft_train_under_torchrun_is_weft_train(tmp_path):
    """The command line on two ranks of this machine: one folder, one answer, the weights of one process."""
    draw = random.Random(0)
    rows = [f"{' '.join(draw.choices(WORDS, k=draw.randint(1, 9)))},{draw.choice(['good', 'bad', 'odd'])}" for _ in range(90)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    found = {}
    for name, start in {
        "one": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    }.items():
        command = [
            "-m",
            "weft",
            "train",
            str(tmp_path / "rows.csv"),
            "--model",
            "cnn",
            "--out",
            str(tmp_path / name),
            "--steps",
            "20",
            "--json",
        ]
        settings = ["--precision", "fp32", "--threads", "1", "--set", "filters=8", "embedding_size=16", "dropout=0", "embedding_dropout=0"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*start, *command, *settings], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found[name] = json.loads(done.stdout)  # one object: the second rank keeps quiet
        assert done.stderr.count("computing on") == 1
    assert found["two"]["metrics"] == pytest.approx(found["one"]["metrics"], abs=1e-4)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_allclose(two[key], one[key], rtol=0, atol=2e-5, err_msg=key)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(path.name for path in (tmp_path / "one").iterdir())
