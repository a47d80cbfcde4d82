"""Kernels for rows of large tables, against torch's own sparse gradients, brute force and torch's dense Adam."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from weft.nn import rows
from weft.nn.embeddings import TokenEmbedding

SIZE, WIDTH = 12, 3


def some(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_is_the_sum_over_each_rows_lookups(weighted, dtype):
    ids = torch.tensor([[3, 11, 3, 0], [0, 0, 0, 0], [5, 3, 1, 11]])
    shares, upstream = some(3, 4, dtype=dtype) if weighted else None, some(3, WIDTH, seed=1, dtype=dtype)
    got = rows.gradient(ids, shares, upstream, SIZE)
    expected = torch.zeros(SIZE, WIDTH, dtype=dtype)
    for i in range(3):
        for j in range(4):
            if ids[i, j]:
                expected[ids[i, j]] += (shares[i, j] if weighted else 1.0) * upstream[i]
    assert got.is_coalesced() and got.indices()[0].tolist() == [1, 3, 5, 11]
    torch.testing.assert_close(got.to_dense(), expected)
    assert got.dtype == dtype and got.shape == (SIZE, WIDTH)


def test_what_lay_in_memory_before_is_never_taken_for_a_row():
    """The table of places is not cleared: whatever it holds, first occurrences must be told from later ones."""
    random = np.random.default_rng(0)
    for _ in range(50):
        ids = random.integers(0, SIZE, (4, 5))
        place = random.integers(-3, 25, SIZE).astype(np.int32)
        found = rows._distinct(ids, place)
        assert sorted(found) == sorted({*ids.ravel().tolist()} - {0})


def test_batches_without_a_word_have_a_gradient_of_no_rows():
    for ids in (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64)):
        got = rows.gradient(ids, None, torch.ones(len(ids), WIDTH), SIZE)
        assert got._nnz() == 0 and (got.to_dense() == 0).all()


def test_sums_of_gradients_are_those_of_micro_batches():
    """What is said to be coalesced is added by merging: that needs ascending rows."""
    batches = [torch.tensor([[9, 2, 9]]), torch.tensor([[2, 1, 10]])]
    parts = [rows.gradient(ids, None, torch.full((1, WIDTH), 1.0), SIZE) for ids in batches]
    assert (parts[0] + parts[1]).coalesce().to_dense()[:, 0].tolist() == [0, 1, 2, 0, 0, 0, 0, 0, 0, 2, 1, 0]


@pytest.mark.parametrize("how", ["vectors", "bag"])
def test_a_sparse_embedding_has_torchs_sparse_gradient(how):
    ids = torch.randint(0, 50, (6, 8), generator=torch.Generator().manual_seed(0))
    ours, theirs = (TokenEmbedding(vocabulary_size=50, size=7, sparse=True, scale=1.5) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    if how == "vectors":
        upstream = some(7, 6, 8, dtype=torch.float32).permute(1, 2, 0)  # not contiguous
        outputs = ours(ids), F.embedding(ids, theirs.weight, padding_idx=0, sparse=True) * 1.5
    else:
        upstream, shares = some(6, 7, dtype=torch.float32), torch.full((6, 8), 1.5 / 8)
        outputs = (
            ours.bag(ids, torch.ones_like(ids, dtype=torch.bool)),
            F.embedding_bag(ids, theirs.weight, mode="sum", per_sample_weights=shares, sparse=True, padding_idx=0),
        )
    for output in outputs:
        output.backward(upstream)
    torch.testing.assert_close(*outputs)
    one, two = ours.weight.grad.coalesce(), theirs.weight.grad.coalesce()
    assert torch.equal(one.indices(), two.indices())
    torch.testing.assert_close(one.values(), two.values())


def test_weights_that_learn_get_their_gradient_too():
    embedding = TokenEmbedding(vocabulary_size=9, size=4, sparse=True)
    ids, mask = torch.tensor([[1, 2, 0]]), torch.tensor([[True, True, False]])
    weights = torch.tensor([[1.0, 3.0, 0.0]], requires_grad=True)
    embedding.bag(ids, mask, weights).sum().backward()
    totals = embedding.weight.detach().sum(1)[[1, 2]]
    mean = (totals[0] + 3 * totals[1]) / 4
    torch.testing.assert_close(weights.grad[0, :2], (totals - mean) / 4)
    assert embedding.weight.grad.coalesce().indices()[0].tolist() == [1, 2]


@pytest.mark.parametrize("how", ["vectors", "bag"])
def test_ids_outside_the_table_are_refused_before_any_kernel_sees_them(how):
    embedding = TokenEmbedding(vocabulary_size=9, size=4, sparse=True)
    for wrong in (9, -1):
        ids = torch.tensor([[1, wrong]])
        with pytest.raises((IndexError, RuntimeError)):
            embedding(ids) if how == "vectors" else embedding.bag(ids, torch.ones(1, 2, dtype=torch.bool))


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_on_rows_is_torchs_on_a_table_of_these_rows(decay, dtype):
    table, occurring = some(SIZE, WIDTH, dtype=dtype), torch.tensor([0, 4, 7])
    small = torch.nn.Parameter(table[occurring].clone())
    oracle = torch.optim.AdamW([small], lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=decay)
    before, moments = table.clone(), (torch.zeros_like(table), torch.zeros_like(table))
    for step in range(1, 5):
        values = some(3, WIDTH, seed=step, dtype=dtype)
        gradient = torch.sparse_coo_tensor(occurring[None], values, table.shape, is_coalesced=True, check_invariants=True)
        rows.adam(table, *moments, gradient, rate=0.05, betas=(0.8, 0.95), epsilon=1e-6, decay=0.05 * decay, step=step)
        small.grad = values
        oracle.step()
    torch.testing.assert_close(table[occurring], small.detach())
    others = [row for row in range(SIZE) if row not in occurring.tolist()]
    assert torch.equal(table[others], before[others]) and all((moment[others] == 0).all() for moment in moments)
