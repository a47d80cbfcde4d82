"""Pooling against the same thing done on every unpadded row by itself."""

import pytest
import torch

from weft.nn import masks, pooling

LENGTHS = torch.tensor([7, 1, 4, 0, 2])


def sequence(dtype=torch.float64, size=4):
    mask = masks.from_lengths(LENGTHS, 7)
    x = torch.randn(5, 7, size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return torch.where(mask.unsqueeze(-1), x, torch.nan), mask


def k_largest_in_order(row, k):
    """Plain Python; of equal values the earlier."""
    columns = []
    for column in row.mT.tolist():
        best = sorted(sorted(range(len(column)), key=lambda i: -column[i])[:k])
        columns.append([column[i] for i in best] + [0.0] * (k - len(best)))
    return torch.tensor(columns, dtype=row.dtype).mT.flatten()


def by_region(row, regions, how):
    n = len(row)
    pieces = [[row[t] for t in range(n) if t * regions // n == r] for r in range(regions)]
    return torch.cat([how(torch.stack(p)) if p else torch.zeros_like(row[0]) for p in pieces])


ONE_ROW = {
    "max": lambda row: row.amax(0),
    "mean": lambda row: row.mean(0),
    "sum": lambda row: row.sum(0),
    "k-max": lambda row: k_largest_in_order(row, 3),
    "first": lambda row: row[0],
    "last": lambda row: row[-1],
    "ends": lambda row: torch.cat([row[-1, :2], row[0, 2:]]),
    "concat": lambda row: torch.cat([row[-1], row.amax(0), row.mean(0)]),
    "regional-max": lambda row: by_region(row, 3, lambda piece: piece.amax(0)),
    "regional-mean": lambda row: by_region(row, 3, lambda piece: piece.mean(0)),
}


@pytest.mark.parametrize("kind", ONE_ROW)
def test_every_row_is_pooled_as_if_alone(kind):
    x, mask = sequence()
    pool = pooling.Pooling(kind=kind, size=4, k=3)
    got = pool(x, mask)
    assert got.shape == (5, pool.output_size)
    for row, n in enumerate(LENGTHS.tolist()):
        expected = ONE_ROW[kind](x[row, :n]) if n else torch.zeros(pool.output_size, dtype=x.dtype)
        torch.testing.assert_close(got[row], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", pooling.POOLINGS)
def test_gradients_agree_with_finite_differences_and_padding_gets_none(kind):
    x, mask = sequence()
    x = x.nan_to_num(0.0).requires_grad_()
    pool = pooling.Pooling(kind=kind, size=4, k=2).double()
    assert torch.autograd.gradcheck(lambda v: pool(v, mask), (x,))
    pool(x, mask).sum().backward()
    assert (x.grad[~mask] == 0).all() and (x.grad[mask] != 0).any()


@pytest.mark.parametrize("kind", pooling.POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_of_nothing_is_zeros_with_no_nan_anywhere(kind, dtype):
    x, mask = sequence(dtype)
    x.requires_grad_()
    pool = pooling.Pooling(kind=kind, size=4).to(dtype)
    y = pool(x, mask)
    assert y.dtype == dtype and (y[3] == 0).all() and y.isfinite().all()
    y.sum().backward()
    assert x.grad[mask].isfinite().all() and (x.grad[~mask] == 0).all()


@pytest.mark.parametrize("kind", pooling.POOLINGS)
def test_padding_and_batch_mates_change_nothing(kind):
    x, mask = sequence(torch.float32)
    pool = pooling.Pooling(kind=kind, size=4, k=5)
    together = pool(x, mask)
    for row, n in enumerate(LENGTHS.tolist()):
        if n:
            torch.testing.assert_close(together[row], pool(x[row : row + 1, :n], mask[row : row + 1, :n])[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("regions", [1, 2, 5, 9])
def test_any_number_of_regions(regions):
    x, mask = sequence()
    pool = pooling.Pooling(kind="regional-max", size=4, regions=regions)
    got = pool(x, mask)
    assert got.shape == (5, 4 * regions) and pool.output_size == 4 * regions
    for row, n in enumerate(LENGTHS.tolist()):
        expected = by_region(x[row, :n], regions, lambda piece: piece.amax(0)) if n else torch.zeros(4 * regions, dtype=x.dtype)
        torch.testing.assert_close(got[row], expected, rtol=0, atol=0)


def test_every_pooling_is_tried():
    assert set(ONE_ROW) | {"attentive", "passes"} == set(pooling.POOLINGS)  # passes: test_passes.py


def test_sums_of_regions_add_up_to_the_sum():
    x, mask = sequence()
    parts = pooling.regional(x, mask, 3, pooling.sum_over_time).unflatten(1, (3, 4))
    torch.testing.assert_close(parts.sum(1), pooling.sum_over_time(x, mask))


def test_ties_go_to_the_first_in_value_order_and_gradient():
    x = torch.tensor([[[1.0], [3.0], [3.0], [0.0], [3.0]]], requires_grad=True)
    mask = torch.ones(1, 5, dtype=torch.bool)
    assert pooling.max_positions(x, mask).tolist() == [[1]]
    pooling.max_over_time(x, mask).sum().backward()
    assert x.grad.flatten().tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]
    x.grad = None
    (pooling.k_max(x, mask, 2) * torch.tensor([[10.0, 1.0]])).sum().backward()
    assert x.grad.flatten().tolist() == [0.0, 10.0, 1.0, 0.0, 0.0]


def test_k_max_keeps_order_and_may_be_longer_than_the_text():
    x = torch.tensor([[[5.0, 1.0], [2.0, 4.0], [9.0, 3.0], [7.0, 2.0]]])
    mask = torch.tensor([[True, True, True, False]])
    assert pooling.k_max(x, mask, 2).tolist() == [[5.0, 4.0, 9.0, 3.0]]
    assert pooling.k_max(x, mask, 6).tolist() == [[5.0, 1.0, 2.0, 4.0, 9.0, 3.0] + [0.0] * 6]
    with pytest.raises(ValueError, match="k=0"):
        pooling.k_max(x, mask, 0)


def test_all_negative_values_next_to_padding():
    """Zeros in the padding must not win."""
    x = torch.tensor([[[-2.0], [-1.0], [0.0]]])
    assert pooling.max_over_time(x, torch.tensor([[True, True, False]])).item() == -1.0


def test_attentive_pooling_is_its_formula():
    x, mask = sequence()
    pool = pooling.AttentivePooling(size=4, hidden_size=3).double()
    got, weights = pool(x, mask), pool.weights(x, mask)
    for row, n in enumerate(LENGTHS.tolist()):
        scores = [(pool.score.weight[0] * torch.tanh(pool.inner.weight @ x[row, t] + pool.inner.bias)).sum() for t in range(n)]
        if n:
            alpha = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
            torch.testing.assert_close(weights[row, :n], alpha, rtol=0, atol=1e-12)
            torch.testing.assert_close(got[row], alpha @ x[row, :n], rtol=0, atol=1e-12)
        assert (weights[row, n:] == 0).all()


def test_bf16_sums_keep_small_terms():
    x = torch.ones(1, 1000, 1, dtype=torch.bfloat16)
    mask = torch.ones(1, 1000, dtype=torch.bool)
    assert pooling.sum_over_time(x, mask).item() == 1000.0  # a bf16 running sum stops at 256
    assert pooling.mean_over_time(x, mask).item() == 1.0


def test_max_pool_2d_patch_by_patch():
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(4))
    got = pooling.max_pool_2d(x, 2)
    assert got.shape == (2, 3, 2, 3)
    for i in range(2):
        for j in range(3):
            assert torch.equal(got[..., i, j], x[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax((2, 3)))
    assert pooling.max_pool_2d(x, 3, stride=1).shape == (2, 3, 3, 4)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"'median'.*max.*attentive"):
        pooling.Pooling(kind="median", size=4)
    with pytest.raises(ValueError, match="size=3"):
        pooling.Pooling(kind="ends", size=3)
    with pytest.raises(ValueError, match="k=0"):
        pooling.Pooling(kind="k-max", size=4, k=0)
    with pytest.raises(ValueError, match="passes=0"):
        pooling.Pooling(kind="passes", size=4, passes=0)
    with pytest.raises(ValueError, match="regions=0"):
        pooling.regional(*sequence(), 0)
    x, mask = sequence(size=3)
    with pytest.raises(ValueError, match="3"):
        pooling.ends(x, mask)
