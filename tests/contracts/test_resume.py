"""Contract 4: stopped at any step and resumed, a run ends with the bytes of the run that never was. Every neural rung, dropout at work."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
from contracts import Killed, at, outcome
from tiny import BF16, CASES, VECTORS, corpus, network, weights

from weft.errors import InputError
from weft.estimators.engine import Budget
from weft.estimators.network import Network
from weft.estimators.vectors import Vectors
from weft.training.checkpoint import load_checkpoint

STEPS = 12  # of batches of 7 of 32 examples: two epochs and a part; a check every 3 steps
DATA, DEV = corpus(), corpus(count=12, seed=1)


def run(rung, checkpoint=None, *, resume=False, callbacks=(), kind="classes", data=DATA, dev=DEV, steps=STEPS, **settings):
    """(weights, everything that history says but the seconds) of one training."""
    made = network(rung, kind, dropout=0.3, batch_size=7, checks=4, data=data, **settings)
    return outcome(made, data, dev, steps, checkpoint, resume=resume, callbacks=callbacks)


def assert_resumes_exactly(whole, rung, path, step, error, check=False, **options):
    with pytest.raises(type(error)):
        run(rung, path, callbacks=[at(step, error, check)], **options)
    assert run(rung, path, resume=True, **options) == whole, f"after {error!r} at step {step}"
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("rung", CASES)
def test_killed_and_resumed(rung, tmp_path):
    whole = run(rung)
    assert len(whole[1]["checks"]) == 4
    for step in (1, 3, 7, 12):
        assert_resumes_exactly(whole, rung, tmp_path / "checkpoint", step, Killed())


@pytest.mark.parametrize("rung", CASES)
def test_interrupted_and_resumed(rung, tmp_path):
    """Ctrl-C leaves the very step it came after."""
    whole, path = run(rung), tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(rung, path, callbacks=[at(8, KeyboardInterrupt())])
    assert load_checkpoint(path)["state"]["step"] == 8
    assert run(rung, path, resume=True) == whole


@pytest.mark.parametrize("error", [Killed(), KeyboardInterrupt()], ids=["killed", "interrupted"])
@pytest.mark.parametrize("check", [False, True], ids=["after the step", "after the check"])
def test_at_every_step(error, check, tmp_path):
    whole = run("gru")
    for step in range(3, STEPS + 1, 3) if check else range(1, STEPS + 1):
        assert_resumes_exactly(whole, "gru", tmp_path / "checkpoint", step, error, check)


@pytest.mark.parametrize("kind", ["labels", "number", "pair"])
def test_for_every_head(kind, tmp_path):
    options = {"kind": kind, "data": corpus(kind), "dev": corpus(kind, count=12, seed=1)}
    whole = run("cnn", **options)
    for step in (2, 9):
        assert_resumes_exactly(whole, "cnn", tmp_path / "checkpoint", step, Killed(), **options)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "learning_rate": 0.1},
        {"optimizer": "momentum", "learning_rate": 0.1},
        {"optimizer": "adagrad", "learning_rate": 0.1},
        {"optimizer": "rmsprop"},
        {"optimizer": "adam", "l2": 1e-3, "l1": 1e-4},
        {"schedule": "cosine", "warmup": 0.25, "micro_batches": 3},
        {"schedule": "slanted-triangular", "weight_decay": 0.1},
        {"schedule": "inverse-square-root", "warmup": 4, "clip": None},
        {"batch_tokens": 60, "word_dropout": 0.3, "embedding_dropout": 0.3},
        {"variational": 0.2, "layers": 2, "layer_dropout": 0.3},
        {"pooling": "attentive", "head": (8,), "patience": 3},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_whatever_the_settings(settings, tmp_path):
    whole = run("lstm", **settings)
    for step in (2, 7):
        assert_resumes_exactly(whole, "lstm", tmp_path / "checkpoint", step, Killed(), **settings)


def test_other_word_vectors_are_not_gone_on_with(tmp_path):
    path = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        run("cnn, non-static", path, callbacks=[at(7, Killed())])
    for other in (SimpleNamespace(**{**vars(VECTORS), "vectors": VECTORS.vectors * 2}), None):
        made = network("cnn, non-static", dropout=0.3, batch_size=7, checks=4, data=DATA, embedding_size=VECTORS.vectors.shape[1])
        made.vectors = None if other is None else Vectors(other)
        with pytest.raises(InputError, match="is of other word vectors; start without --resume"):
            made.fit(DATA, DEV, Budget(steps=STEPS), checkpoint=path, resume=True)


@pytest.mark.parametrize("rung", ["bag", "lstm", "bag, multichannel", "cnn, non-static", "cnn, multichannel"])
def test_tables_updated_by_rows(rung, tmp_path, monkeypatch):
    monkeypatch.setattr("weft.estimators.engine.LAZY_ROWS", 1)
    whole = run(rung)
    for step in (2, 7):
        assert_resumes_exactly(whole, rung, tmp_path / "checkpoint", step, Killed())


@pytest.mark.parametrize("rung", ["cnn", "bilstm", "transformer"])
def test_in_bf16_too(rung, tmp_path):
    whole = run(rung, compute=BF16)
    for step in (2, 7):
        assert_resumes_exactly(whole, rung, tmp_path / "checkpoint", step, Killed(), compute=BF16)


def test_again_and_again(tmp_path):
    whole, path = run("cnn"), tmp_path / "checkpoint"
    for step in (2, 4, 5, 6, 10, 12):
        with pytest.raises(KeyboardInterrupt):
            run("cnn", path, resume=True, callbacks=[at(step, KeyboardInterrupt())])
    assert run("cnn", path, resume=True) == whole


@pytest.mark.parametrize("patience,end", [(0, "budget"), (1, "patience")])
def test_a_finished_run_is_taken_up_as_it_ended(patience, end, tmp_path):
    """Killed after its last check, before its answer was written: the same answer, why it stopped included."""
    path = tmp_path / "checkpoint"
    settings = {"patience": patience, "learning_rate": 1.0, "steps": 60, "monitor": "loss"}
    whole = run("cnn", path, **settings)
    assert whole[1]["stopped"] == end
    assert (whole[1]["steps"] < 60) == (end == "patience")
    shutil.copy(path, tmp_path / "copy")
    assert run("cnn", tmp_path / "copy", resume=True, **settings) == whole


def test_without_a_checkpoint_resuming_is_starting(tmp_path):
    assert run("cnn", tmp_path / "checkpoint", resume=True) == run("cnn")


def test_checkpoints_change_nothing(tmp_path):
    assert run("attention-lstm", tmp_path / "checkpoint") == run("attention-lstm")


def test_minutes_become_steps_once(tmp_path, monkeypatch):
    """A budget in minutes is measured at the start; a resumed run keeps the steps it was given, however fast the machine is now."""

    def run_for_minutes(seconds_a_step, callbacks=(), resume=False):
        monkeypatch.setattr(Network, "seconds_per_step", lambda *_: seconds_a_step)
        monkeypatch.setattr(Network, "seconds_of_looks", lambda *_: 0.0)
        made = network("cnn", dropout=0.3, batch_size=7, checks=4)
        history = made.fit(DATA, DEV, Budget(minutes=0.1), checkpoint=tmp_path / "checkpoint", resume=resume, callbacks=list(callbacks))
        return weights(made.model), history.steps, history.checks

    whole = run_for_minutes(0.5)
    assert whole[1] == 12
    with pytest.raises(Killed):
        run_for_minutes(0.5, [at(7, Killed())])
    assert run_for_minutes(0.1, resume=True) == whole
