"""Schedules against torch's, their closed forms, and what all of them must keep to."""

from __future__ import annotations

import math

import pytest
import torch

from weft.errors import InputError
from weft.training.schedules import SCHEDULES, constant, cosine, inverse_square_root, linear, schedule, slanted_triangular


def curve(name: str, total: int, warmup: int = 0) -> list[float]:
    return [schedule(name)(step, total, warmup) for step in range(total)]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total, warmup", [(1, 0), (2, 1), (7, 0), (50, 5), (100, 99)])
def test_every_schedule_stays_within_its_bounds(name, total, warmup):
    factors = curve(name, total, warmup)
    assert all(0 < factor <= 1 for factor in factors)  # never 0: no step is wasted
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1]) and factors[peak:] == sorted(factors[peak:], reverse=True)
    assert schedule(name)(total + 10, total, warmup) == schedule(name)(total, total, warmup)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "inverse-square-root"])
def test_warm_up_rises_in_equal_steps_to_the_base_rate(name):
    assert curve(name, 20, 4)[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_cosine_is_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    for step in range(30):
        assert cosine(step, 30) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        assert cosine(step + 5, 35, 5) == pytest.approx(cosine(step, 30))
        optimizer.step()
        theirs.step()


def test_linear_is_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=30)
    for step in range(30):
        assert linear(step, 30) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_inverse_square_root_as_published():
    size, warmup = 512, 40
    published = [size**-0.5 * min(t**-0.5, t * warmup**-1.5) for t in range(1, 500)]  # Vaswani et al., 2017, equation 3
    own = [inverse_square_root(step, 499, warmup) for step in range(499)]
    assert own == pytest.approx([value / max(published) for value in published])
    assert inverse_square_root(15, 100) == 0.25


def test_constant_is_constant():
    assert curve("constant", 5) == [1.0] * 5
    assert constant(10, 20, 3) == 1.0


@pytest.mark.parametrize("t, rate", [(0, 0.0003125), (5, 0.00515625), (10, 0.01), (55, 0.00515625), (100, 0.0003125)])
def test_e108_w28_slanted_triangle(t, rate):
    assert 0.01 * slanted_triangular(t, 100) == pytest.approx(rate, abs=1e-12)


@pytest.mark.parametrize("total, cut, ratio", [(100, 0.1, 32), (100, 0.29, 10), (40, 0.5, 2)])
def test_e108_slanted_triangle_is_the_published_formula_where_the_cut_is_whole(total, cut, ratio):
    peak = round(total * cut)
    for t in range(total + 1):
        p = t / peak if t < peak else 1 - (t - peak) / (peak * (1 / cut - 1))
        assert slanted_triangular(t, total, cut=cut, ratio=ratio) == pytest.approx((1 + p * (ratio - 1)) / ratio, abs=1e-9)
    assert slanted_triangular(peak, total, cut=cut, ratio=ratio) == 1
    assert slanted_triangular(total, total, cut=cut, ratio=ratio) == pytest.approx(1 / ratio)


def test_e108_slanted_triangle_never_falls_below_its_foot():
    total, peak = 105, 10
    published = (1 + (1 - (total - peak) / (peak * (1 / 0.1 - 1))) * 31) / 32
    assert published < 0  # what the formula itself gives where total·cut is not whole
    assert slanted_triangular(total, total) == pytest.approx(1 / 32)
    assert slanted_triangular(peak, total) == 1
    assert slanted_triangular(30, 100, 30) == 1  # a warm-up puts the peak where it ends


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="constant, linear, cosine, inverse-square-root, slanted-triangular"):
        schedule("triangle")
    for name in SCHEDULES:
        for step, total, warmup in ((0, 0, 0), (-1, 10, 0), (0, 10, 10), (0, 10, -1)):
            with pytest.raises(InputError):
                schedule(name)(step, total, warmup)
    for settings in ({"cut": 0.0}, {"cut": 1.0}, {"ratio": 0.5}):
        with pytest.raises(InputError, match="cut"):
            slanted_triangular(0, 10, **settings)
    assert math.isfinite(slanted_triangular(0, 3))
