from __future__ import annotations

import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from weft import device
from weft.device import Compute, allowed_processors, autocast, choose, has_fast_bf16, seed_everything
from weft.errors import InputError


@pytest.fixture(autouse=True)
def same_threads():
    """Tests set the thread count of the whole process; it is put back."""
    before = torch.get_num_threads()
    device._say.cache_clear()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def flags(monkeypatch):
    """Sets what the processor is said to have."""

    def pretend(*names: str) -> None:
        monkeypatch.setattr(device, "processor_flags", lambda: frozenset(names))

    return pretend


@pytest.mark.parametrize(
    ("names", "precision"), [(("avx512_bf16",), "bf16"), (("amx_bf16", "avx512f"), "bf16"), (("avx512f",), "fp32"), ((), "fp32")]
)
def test_auto_precision_follows_the_processor(flags, names, precision):
    flags(*names)
    assert has_fast_bf16("cpu") == (precision == "bf16")
    assert choose("cpu").precision == precision
    assert choose("cpu", "fp32").precision == "fp32"


def test_flags_are_those_of_cpuinfo():
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        assert device.processor_flags() == frozenset()
        return
    line = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "flags:")
    assert device.processor_flags() == set(line.split(":")[1].split())


def test_the_choice_is_said_once_with_its_reason(flags, caplog):
    flags("amx_bf16")
    with caplog.at_level(logging.INFO, logger="weft"):
        choose("cpu", threads=1)
        choose("cpu", threads=1)
    assert [record.getMessage() for record in caplog.records] == ["computing on cpu in bf16 (the processor has AMX), 1 thread"]


def test_bf16_without_hardware_is_warned_of(flags, caplog):
    flags()
    assert choose("cpu", "bf16").precision == "bf16"
    assert any(record.levelno == logging.WARNING and "slower" in record.getMessage() for record in caplog.records)


def test_threads_are_set(monkeypatch):
    assert choose("cpu", threads=1) == Compute(torch.device("cpu"), "bf16" if has_fast_bf16() else "fp32", 1)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    monkeypatch.setattr(device, "allowed_processors", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # the user's own choice beats ours
    assert choose("cpu").threads == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert choose("cpu").threads == torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("written", "most"), [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1), ("nonsense", None), (None, None)]
)
def test_a_containers_quota_limits_the_processors(tmp_path, monkeypatch, written, most):
    quota = tmp_path / "cpu.max"
    if written is not None:
        quota.write_text(written)
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert allowed_processors(quota) == (most or 8)


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({"device": "gpu"}, "device"),
        ({"device": "meta"}, "device"),
        ({"device": "cuda:99"}, "device"),
        ({"precision": "fp16"}, "precision"),
        ({"threads": 0}, "threads"),
    ],
)
def test_what_cannot_be_is_refused(arguments, place):
    with pytest.raises(InputError) as caught:
        choose(**arguments)
    assert caught.value.place == place


def test_missing_gpu_names_what_would_run(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="auto or cpu would run"):
        choose("cuda")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_sets_the_type_of_products(precision, dtype):
    a = torch.ones(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast(Compute(torch.device("cpu"), precision, 1)):
        assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


def test_seeds_reach_every_generator():
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    seed_everything(7)
    first = draws()
    assert all(a != b for a, b in zip(first, draws(), strict=True))
    seed_everything(7)
    assert draws() == first


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(InputError, match="seed"):
        seed_everything(seed)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_auto_takes_the_gpu():
    compute = choose()
    assert compute.device.type == "cuda"
    assert compute.precision == ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32")
    with autocast(compute):
        a = torch.ones(2, 2, device="cuda")
        assert (a @ a).dtype == (torch.bfloat16 if compute.precision == "bf16" else torch.float32)
