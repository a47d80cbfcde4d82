"""Streams against the text itself: what is read, what is foretold, what goes on where, and windows to measure by, one token at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from weft.data.batch import StreamBatches
from weft.data.streams import Streams, joined, strided
from weft.errors import InputError

IDS = np.arange(100, 203, dtype=np.int32)  # 102 targets


def walked(streams: Streams, epoch: int) -> list[list[int]]:
    """What each row reads in an epoch, then the last target."""
    rows: list[list[int]] = [[] for _ in range(len(streams))]
    last = []
    for inputs, targets, _ in streams.epoch(epoch):
        assert (targets == inputs + 1).all()  # here ids count up, so the token after is one more
        for row, ids in zip(rows, inputs.tolist(), strict=True):
            row += ids
        last = targets[:, -1].tolist()
    return [[*row, end] for row, end in zip(rows, last, strict=True)]


@pytest.mark.parametrize("seed", [None, 3])
def test_contiguous_rows_are_the_text(seed):
    streams = Streams(IDS, rows=4, block=7, seed=seed)
    for epoch in range(5):
        rows = walked(streams, epoch)
        whole = [token for row in rows for token in row[:-1]] + rows[-1][-1:]
        assert whole == list(range(whole[0], whole[0] + 101)) and whole[0] in (100, 101, 102)  # 4 · 25 targets of 102
        lengths = [inputs.shape[1] for inputs, _, _ in streams.epoch(epoch)]
        assert max(lengths) <= 7 and len(lengths) == streams.steps(epoch)
        assert [continues for *_, continues in streams.epoch(epoch)] == [False] + [True] * (len(lengths) - 1)


def test_epochs_are_cut_differently_and_the_same_again():
    streams, again = (Streams(IDS, rows=4, block=7, seed=3) for _ in range(2))
    firsts = [next(streams.epoch(epoch)) for epoch in range(12)]
    assert len({first.inputs.shape[1] for first in firsts}) > 2 and min(first.inputs.shape[1] for first in firsts) >= 4
    assert len({int(first.inputs[0, 0]) for first in firsts}) > 1
    for epoch in (7, 2):  # in another order
        for one, other in zip(streams.epoch(epoch), again.epoch(epoch), strict=True):
            np.testing.assert_array_equal(one.inputs, other.inputs)


@pytest.mark.parametrize("cut", ["contiguous", "random"])
def test_the_second_half_is_the_same(cut):
    batches = StreamBatches(Streams(IDS, rows=3, block=5, seed=1, cut=cut))
    whole = list(batches.epoch(4))
    assert len(whole) == batches.steps(4)
    for one, other in zip(whole[3:], batches.epoch(4, 3), strict=True):
        assert torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)
        assert one.continues is other.continues is (None if cut == "random" else True)
        assert one.mask.all() and one.source.tolist() == [0, 1, 2]
    part = whole[3].split(3)
    assert [piece.continues for piece in part] == [whole[3].continues] * 3 and part[1].source.tolist() == [1]


def test_random_blocks_begin_anywhere():
    streams = Streams(IDS, rows=6, block=20, seed=0, cut="random")
    begins = [int(row[0]) for epoch in range(400) for window in streams.epoch(epoch) for row in window.inputs]
    counts = np.bincount(np.array(begins) - 100, minlength=83)
    assert len(counts) == 83 and streams.steps() == 1  # the last target of the last block is the last id
    expected = len(begins) / 83
    assert ((counts - expected) ** 2 / expected).sum() < 82 + 4 * (2 * 82) ** 0.5  # χ² within 4σ of uniform


def test_too_short(caplog):
    with pytest.raises(InputError, match=r"has 7 tokens, its ends among them: too few for one block of 7"):
        Streams(IDS[:7], rows=1, block=7)
    streams = Streams(IDS[:30], rows=20, block=7)
    assert len(streams) == 4 and "30 tokens make 4 rows of a block of 7, not 20" in caplog.text
    with pytest.raises(ValueError, match="must be at least 1"):
        Streams(IDS, rows=0, block=7)
    with pytest.raises(ValueError, match="cut='sideways'"):
        Streams(IDS, rows=1, block=7, cut="sideways")


def test_fingerprints_tell_apart():
    made = [
        Streams(IDS, rows=4, block=7), Streams(IDS, rows=3, block=7), Streams(IDS, rows=4, block=8), Streams(IDS, rows=4, block=7, seed=0),
        Streams(IDS, rows=4, block=7, cut="random"), Streams(IDS[1:], rows=4, block=7),
    ]  # fmt: skip
    assert len({streams.fingerprint() for streams in made}) == len(made)
    assert made[0].fingerprint() == Streams(IDS.copy(), rows=4, block=7).fingerprint()


def test_texts_are_joined_by_the_end():
    assert joined([np.array([5, 6]), np.array([], np.int64), np.array([7])], 9).tolist() == [9, 5, 6, 9, 9, 7, 9]


@pytest.mark.parametrize(
    ("count", "window", "stride"), [(103, 10, 10), (103, 10, 3), (103, 10, 1), (5, 10, 4), (2, 1, 1), (41, 20, 20), (1, 4, 2)]
)
def test_every_token_is_measured_once_with_enough_before_it(count, window, stride):
    ids = IDS[:count]
    found = strided(ids, window=window, stride=stride)
    seen = []
    for inputs, targets, first in zip(*found, strict=True):
        assert len(inputs) == len(targets) <= window and (targets == inputs + 1).all()
        for place in range(first, len(targets)):
            seen.append(int(targets[place]))
            assert place + 1 >= min(window - stride + 1, int(targets[place]) - 100)  # tokens before it that are seen
    assert seen == ids[1:].tolist()


def test_strides_that_leave_tokens_out_are_refused():
    for stride in (0, 11):
        with pytest.raises(ValueError, match="from 1 to the window of 10"):
            strided(IDS, window=10, stride=stride)
