"""Many processes: who takes which chunks, and how their tables are joined, by threads that stand for processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weft.vectors.methods import WordVectors
from weft.vectors.ranks import FURTHEST, ManyRanks, Ranks, shared_work
from weft.vectors.steps import Tables


def tables(inputs: np.ndarray, outputs: np.ndarray) -> Tables:
    return Tables(inputs, outputs, *(np.zeros(1) for _ in range(len(Tables._fields) - 2)))


class Group:
    """`count` threads whose `summed` adds over all of them."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.barrier, self.brought = count, threading.Barrier(count), [np.zeros(0)] * count
        group = self

        def summed(rank: ManyRanks, values: np.ndarray) -> np.ndarray:
            group.brought[rank.number] = np.array(values)
            group.barrier.wait()
            total = np.sum(group.brought, axis=0)
            group.barrier.wait()
            return np.asarray(total, values.dtype)

        monkeypatch.setattr(ManyRanks, "summed", summed)

    def join(self, before: np.ndarray, after: list[np.ndarray]) -> list[np.ndarray]:
        def one(number: int) -> None:
            rank, table = ManyRanks(number, self.count), tables(before.copy(), before.copy() * 2)
            old = rank.remember(table)
            table.inputs[:] = after[number]
            rank.join(table, old)
            assert np.array_equal(table.outputs, before * 2), "what nobody changed stays"
            found[number] = table.inputs

        found: list[Any] = [None] * self.count
        threads = [threading.Thread(target=one, args=(number,)) for number in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        return found


def expected(before: np.ndarray, after: list[np.ndarray]) -> np.ndarray:
    joined = before.copy()
    for row in range(len(before)):
        changes = [table[row] - before[row] for table in after]
        lengths = [np.linalg.norm(change) for change in changes if np.any(change)]
        total = np.sum(changes, axis=0)
        if lengths:
            most = FURTHEST * np.sqrt(np.mean(np.square(lengths)))
            joined[row] += total * min(1, most / max(np.linalg.norm(total), 1e-30))
    return joined


@pytest.mark.parametrize("count", [2, 3, 8])
def test_tables_end_equal_with_the_sum_of_changes_up_to_a_bound(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(count)
    before = random.standard_normal((40, 5)).astype(np.float32)
    pull = random.standard_normal((40, 5)).astype(np.float32)
    after = [before + pull + 0.1 * random.standard_normal((40, 5)).astype(np.float32) for _ in range(count)]
    for number, table in enumerate(after):
        table[:10] = before[:10]
        table[number] = before[number] + 1  # a row of its own
    found = Group(count, monkeypatch).join(before, after)
    assert all(table.tobytes() == found[0].tobytes() for table in found)
    np.testing.assert_allclose(found[0], expected(before, after), rtol=1e-4, atol=1e-5)
    for number in range(count):
        np.testing.assert_allclose(found[0][number], before[number] + 1, rtol=1e-5)
    assert np.array_equal(found[0][count:10], before[count:10])
    total = before + sum(table - before for table in after)
    assert np.allclose(found[0], total, atol=1e-4) == (count == 2)  # two never reach the bound


def test_a_change_and_its_opposite_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before = np.ones((2, 3), np.float32)
    found = Group(2, monkeypatch).join(before, [before + 1, before - 1])
    assert np.array_equal(found[0], before)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("chunks", [0, 1, 5, 20])
def test_every_chunk_is_taken_once(count: int, chunks: int) -> None:
    taken = [ManyRanks(number, count).mine(chunks) for number in range(count)]
    assert sorted(chain.from_iterable(taken)) == list(range(chunks))
    assert max(map(len, taken)) - min(map(len, taken)) <= 1
    assert [ManyRanks(number, count).main for number in range(count)] == [True] + [False] * (count - 1)
    assert Ranks().mine(chunks) == list(range(chunks))


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}, {"WORLD_SIZE": "2"}])
def test_alone_nothing_is_shared(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with shared_work() as ranks:
        assert not ranks.many and ranks.main and ranks.rounds == 1


def test_under_torchrun_every_method_ends_equal_even_where_a_process_has_no_chunk(tmp_path: Path) -> None:
    """A corpus of one chunk: the second process has nothing to do and waits for the first."""
    code = (
        "import hashlib, json, os\n"
        "from weft.vectors.methods import WordVectors\n"
        "text = [['a', 'b', 'c', 'd'], ['c', 'd', 'e', 'a', 'b'], ['e', 'c', 'b']] * 40\n"
        "found = {}\n"
        "for method in ('skipgram', 'cbow', 'fasttext', 'glove', 'svd', 'ngram', 'ranking'):\n"
        "    more = {'settings': {'buckets': 50}} if method == 'fasttext' else {}\n"
        "    more |= {'sample': 0} if method == 'skipgram' else {}\n"
        "    made = WordVectors(method, dim=3, window=3, epochs=2, threads=1, **more).fit(text)\n"
        "    found[method] = hashlib.sha256(made.vectors_.vectors.tobytes()).hexdigest(), made.losses_\n"
        "with open(f\"rank{os.environ['RANK']}.json\", 'w') as file:\n"
        "    json.dump(found, file)\n"
    )
    (tmp_path / "run.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "run.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))
    assert first == second and len(first) == 7
    text = [["a", "b", "c", "d"], ["c", "d", "e", "a", "b"], ["e", "c", "b"]] * 40
    alone = WordVectors("skipgram", dim=3, window=3, epochs=2, threads=1, sample=0).fit(text)
    np.testing.assert_allclose(first["skipgram"][1], alone.losses_, rtol=1e-4)  # one chunk: what one process does
