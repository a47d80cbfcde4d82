"""Checkpoints: bit for bit back, whole or absent, refused where they are not ours; Ctrl-C that waits."""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from weft.errors import InputError
from weft.training.checkpoint import checkpoint_steps, load_checkpoint, remove_checkpoint, save_checkpoint, snapshot, uninterrupted

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8]
TENSORS = st.builds(
    lambda shape, dtype, seed: (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 100).to(dtype),
    st.lists(st.integers(0, 3), max_size=3), st.sampled_from(DTYPES), st.integers(0, 99),
)  # fmt: skip
KEYS = st.one_of(st.text(max_size=5), st.integers(-3, 300))
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), TENSORS)
NESTS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(VALUES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)), max_leaves=12),
    max_size=4,
)


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or struct.pack("d", one) == struct.pack("d", other)
    return type(one) is type(other) and one == other


@settings(max_examples=60, deadline=None)
@given(NESTS)
def test_what_comes_back_is_what_went_in(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("nest") / "checkpoint"
    save_checkpoint(path, state)
    assert same(load_checkpoint(path), state)


def test_names_with_slashes_do_not_meet(tmp_path):
    state = {"a": {"b": torch.zeros(1)}, "a/b": torch.ones(1), "": {"a/b": torch.full((1,), 2.0)}}
    save_checkpoint(tmp_path / "c", state)
    assert same(load_checkpoint(tmp_path / "c"), state)


def test_tuples_come_back_as_lists_and_shared_tensors_as_two(tmp_path):
    weight = torch.arange(4.0)
    save_checkpoint(tmp_path / "c", {"betas": (0.9, 0.999), "a": weight, "b": weight, "part": weight[1:3], "turned": weight.view(2, 2).T})
    back = load_checkpoint(tmp_path / "c")
    assert back["betas"] == [0.9, 0.999]
    assert torch.equal(back["a"], back["b"]) and torch.equal(back["part"], weight[1:3])
    assert torch.equal(back["turned"], weight.view(2, 2).T)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"])
def test_optimizers_go_on_from_what_comes_back(name, tmp_path):
    from weft.training.optimizers import make_optimizer

    def step(model, optimizer, number):
        optimizer.zero_grad()
        model(torch.full((2, 3), float(number))).square().sum().backward()
        optimizer.step()

    model = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(model, name, 0.01)
    for number in range(3):
        step(model, optimizer, number)
    save_checkpoint(tmp_path / "c", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    other = torch.nn.Linear(3, 2)
    taken_up = make_optimizer(other, name, 0.01)
    back = load_checkpoint(tmp_path / "c")
    other.load_state_dict(back["model"])
    taken_up.load_state_dict(back["optimizer"])
    for number in range(3, 6):
        step(model, optimizer, number)
        step(other, taken_up, number)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters()))


def test_a_cut_file_is_refused_wherever_it_was_cut(tmp_path):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {"config": {"steps": 3}, "weight": torch.arange(50.0)})
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 40, *range(100, len(whole) - 1, 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"checkpoint: unreadable checkpoint .*--resume"):
            load_checkpoint(path)


def test_a_damaged_header_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {"config": {"steps": 3}, "weight": torch.arange(3.0)})
    whole, refused = path.read_bytes(), 0
    (header,) = struct.unpack("<Q", whole[:8])
    for place in range(8 + header):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
        try:
            load_checkpoint(path)
        except InputError:
            refused += 1
    assert refused > 0.8 * (8 + header)  # what is left changed a name or a number in it; anything but InputError has failed above


def test_what_is_no_checkpoint_is_refused(tmp_path):
    missing, folder, text, foreign, other = (tmp_path / name for name in ("missing", "folder", "text", "foreign", "other"))
    folder.mkdir()
    text.write_text("hello", encoding="utf-8")
    save_file({"weight": torch.zeros(2)}, foreign)
    save_file({"weight": torch.zeros(2)}, other, {"format": "weft-checkpoint-1"})
    for path in (missing, folder, text, other):
        with pytest.raises(InputError, match="unreadable checkpoint"):
            load_checkpoint(path)
    with pytest.raises(InputError, match="not a weft checkpoint"):
        load_checkpoint(foreign)


def test_a_write_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {"step": 1})

    def fail(*_):
        raise OSError(28, "No space left on device")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="No space"):
                save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
    save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 2}


def test_the_file_is_numbers_and_json(tmp_path):
    save_checkpoint(tmp_path / "c", {"step": 1, "weight": torch.zeros(2)})
    data = (tmp_path / "c").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert set(header) == {"__metadata__", "0/weight"}
    assert json.loads(header["__metadata__"]["state"]) == {"$dict": [["step", 1], ["weight", {"$tensor": "0/weight"}]]}


def test_the_planned_steps(tmp_path):
    save_checkpoint(tmp_path / "c", {"config": {"steps": 12}})
    assert checkpoint_steps(tmp_path / "c") == 12
    save_checkpoint(tmp_path / "c", {"config": {}})
    with pytest.raises(InputError, match="another version"):
        checkpoint_steps(tmp_path / "c")


def test_removing_takes_leftovers_of_killed_writes_along(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"step": 1})
    (tmp_path / ".checkpoint.safetensors.0a1b2c.tmp").write_bytes(b"half")
    kept = tmp_path / ".other.0a1b2c.tmp"
    kept.write_bytes(b"another's")
    remove_checkpoint(path)
    assert list(tmp_path.iterdir()) == [kept]
    remove_checkpoint(path)  # nothing there: fine


def test_snapshots_stay_while_weights_move():
    model = torch.nn.Linear(2, 2)
    kept = snapshot(model.state_dict())
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1)
    assert torch.equal(kept["weight"], before) and not kept["weight"].requires_grad


def test_ctrl_c_waits_until_the_block_is_done():
    done, handler = [], signal.getsignal(signal.SIGINT)

    def twice() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("first half")
            os.kill(os.getpid(), signal.SIGINT)
            done.append("second half")

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert done == ["first half", "second half"]
    assert signal.getsignal(signal.SIGINT) is handler
    with uninterrupted():
        pass  # without a signal, nothing


def test_errors_inside_come_first_and_the_handler_is_put_back():
    handler = signal.getsignal(signal.SIGINT)

    def broken() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert signal.getsignal(signal.SIGINT) is handler


def test_handlers_of_others_are_called_and_other_threads_left_alone():
    called = []
    before = signal.signal(signal.SIGINT, lambda *arguments: called.append(arguments[0]))
    try:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            assert not called
        assert called == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
    errors: list[BaseException] = []

    def elsewhere():
        try:
            with uninterrupted():
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert not errors


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
