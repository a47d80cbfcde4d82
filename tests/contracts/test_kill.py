"""Contract 4, in earnest: `weft train` under SIGKILL at random moments, then --resume: the same folder, byte for byte, as never killed.

Moments are drawn over all of training and the writing of the folder, and some over the process's start; so they also fall into writes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import CLASSES, WORDS

from weft.training.checkpoint import load_checkpoint

if sys.platform == "win32":
    pytest.skip("there is no SIGKILL", allow_module_level=True)

WHOLE = ("model.safetensors", "tokenizer.json", "metrics.json")  # README.md says how long training took
CHECKPOINT = "checkpoint.safetensors"
SETTINGS = ["--set", "embedding_size=16", "hidden_size=16", "checks=100", "dropout=0.3"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(data: Path, folder: Path, *more: str) -> list[str]:
    settings = ["--model", "lstm", "--steps", "400", "--batch-size", "8", "--precision", "fp32", "--threads", "1", *SETTINGS]
    return [sys.executable, "-m", "weft", "train", str(data), "--out", str(folder), *settings, *more]


def start(data: Path, folder: Path, *more: str) -> subprocess.Popen:
    return subprocess.Popen(command(data, folder, *more), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def under_way(process: subprocess.Popen, folder: Path) -> float:
    """Waits for the process's first checkpoint, or its end; when that was."""
    path = folder / CHECKPOINT
    before = path.stat().st_mtime_ns if path.exists() else None
    while process.poll() is None:
        try:
            if path.stat().st_mtime_ns != before:
                break
        except FileNotFoundError:
            pass
        time.sleep(0.005)
    return time.monotonic()


def finish(data: Path, folder: Path, *more: str) -> tuple[float, float]:
    """Trains to the end; the seconds it took to start, and then to train."""
    started = time.monotonic()
    process = start(data, folder, *more)
    training = under_way(process, folder)
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    return training - started, time.monotonic() - training


def kill(data: Path, folder: Path, seconds: float, *more: str, early: bool = False) -> bool:
    """Kills after that many seconds of training or, with `early`, of the process; whether it was still alive."""
    process = start(data, folder, *more)
    if not early:
        under_way(process, folder)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def checkpoint_of(folder: Path) -> int | None:
    """The step its checkpoint holds; unreadable ones raise here."""
    path = folder / CHECKPOINT
    return int(load_checkpoint(path)["state"]["step"]) if path.exists() else None


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in WHOLE}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    draw = random.Random(0)
    rows = ["text,label"] + [f"{' '.join(draw.choices(WORDS, k=draw.randint(2, 12)))},class{draw.randrange(CLASSES)}" for _ in range(120)]
    path = tmp_path_factory.mktemp("data") / "rows.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> tuple[dict[str, bytes], float, float]:
    """The run that nobody killed: its files, the seconds it took to start, and to train."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    seconds = finish(data, folder)
    return contents(folder), *seconds


def assert_as_never_killed(folder: Path, whole: dict[str, bytes]) -> None:
    assert contents(folder) == whole
    assert len(json.loads(whole["metrics.json"])["training"]["checks"]) > 20
    assert sorted(path.name for path in folder.iterdir()) == sorted(["README.md", "config.json", *WHOLE])  # no leftovers


def test_killed_three_times_on_the_way(data, whole, tmp_path):
    draw, folder, steps = random.Random(1), tmp_path / "model", []
    for share in (0.4, 0.3, 0.3):  # of a training's time, at most: there is something left to kill each time
        kill(data, folder, draw.uniform(0, share) * whole[2], "--resume")
        steps.append(checkpoint_of(folder))
    finish(data, folder, "--resume")
    assert_as_never_killed(folder, whole[0])
    reached = [step for step in steps if step is not None]
    assert reached == sorted(set(reached)) and reached[0] < 400, steps


@pytest.mark.slow
def test_killed_at_twenty_random_moments(data, whole, tmp_path):
    draw, alive, steps = random.Random(2), 0, []
    for number in range(20):
        folder, early = tmp_path / f"model{number}", number % 5 == 0
        alive += kill(data, folder, draw.uniform(0, 1.2 * whole[1] if early else whole[2]), early=early)
        steps.append(checkpoint_of(folder))
        finish(data, folder, "--resume")
        assert_as_never_killed(folder, whole[0])
        shutil.rmtree(folder)
    assert alive >= 10
    assert len({step for step in steps if step}) >= 5, steps  # they fell into training, at different steps
