"""Embeddings: lookup against torch, bags and windows against plain loops, counts against the dense product."""

import pytest
import torch

from weft.nn import masks
from weft.nn.embeddings import CountInput, TokenEmbedding, TwoChannelEmbedding, bag, concatenated_windows, hybrid_windows

LENGTHS = torch.tensor([6, 1, 4, 0])


@pytest.fixture
def sequence():
    generator = torch.Generator().manual_seed(0)
    mask = masks.from_lengths(LENGTHS, 6)
    x = torch.randn(4, 6, 3, dtype=torch.float64, generator=generator)
    return torch.where(mask.unsqueeze(-1), x, torch.nan), mask


def ids_of(mask, vocabulary_size=20):
    return torch.randint(1, vocabulary_size, mask.shape, generator=torch.Generator().manual_seed(1)) * mask


@pytest.mark.parametrize("sparse", [False, True])
def test_lookup_and_gradient_are_torchs_and_row_zero_stays_out(sparse):
    mask = masks.from_lengths(LENGTHS, 6)
    ids = ids_of(mask)
    embedding = TokenEmbedding(vocabulary_size=20, size=5, sparse=sparse, scale=2.0)
    oracle = torch.nn.Embedding.from_pretrained(embedding.weight.detach().clone(), freeze=False)
    weight = torch.randn(4, 6, 5)
    (embedding(ids) * weight).sum().backward()
    (2.0 * oracle(ids) * weight * mask.unsqueeze(-1)).sum().backward()
    gradient = embedding.weight.grad
    assert gradient.is_sparse == sparse
    if sparse:
        assert set(gradient.coalesce().indices()[0].tolist()) == set(ids[mask].tolist())
        gradient = gradient.to_dense()
    torch.testing.assert_close(embedding(ids), 2.0 * oracle(ids))
    torch.testing.assert_close(gradient, oracle.weight.grad)
    assert (embedding(torch.zeros(2, 2, dtype=torch.int64)) == 0).all() and (gradient[0] == 0).all()


@pytest.mark.parametrize("optimizer", [torch.optim.SparseAdam, torch.optim.SGD])
def test_a_sparse_step_leaves_other_rows_alone(optimizer):
    embedding = TokenEmbedding(vocabulary_size=10, size=4, sparse=True)
    before = embedding.weight.detach().clone()
    embedding(torch.tensor([[3, 7, 0]])).sum().backward()
    optimizer(embedding.parameters(), lr=0.1).step()
    changed = (embedding.weight.detach() != before).any(1)
    assert changed.nonzero().flatten().tolist() == [3, 7]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_fused_bag_is_the_bag_of_the_vectors(sparse, weighted):
    mask = masks.from_lengths(LENGTHS, 6)
    ids = ids_of(mask)
    weights = torch.rand(4, 6, generator=torch.Generator().manual_seed(2)) if weighted else None
    embedding = TokenEmbedding(vocabulary_size=20, size=5, sparse=sparse, scale=3.0)
    fused, plain = embedding.bag(ids, mask, weights), bag(embedding(ids), mask, weights)
    torch.testing.assert_close(fused, plain)
    direction = torch.randn(4, 5)
    (one,) = torch.autograd.grad((fused * direction).sum(), [embedding.weight])
    (two,) = torch.autograd.grad((plain * direction).sum(), [embedding.weight])
    assert one.is_sparse == sparse
    torch.testing.assert_close(one.to_dense() if sparse else one, two.to_dense() if sparse else two)


@pytest.mark.parametrize("weighted", [False, True])
def test_bag_row_by_row(sequence, weighted):
    x, mask = sequence
    weights = torch.rand(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    got = bag(x, mask, weights if weighted else None)
    for row, n in enumerate(LENGTHS.tolist()):
        a = weights[row, :n] if weighted else torch.ones(n, dtype=torch.float64)
        expected = (a.unsqueeze(-1) * x[row, :n]).sum(0) / a.sum() if n else torch.zeros(3, dtype=torch.float64)
        torch.testing.assert_close(got[row], expected, rtol=0, atol=1e-12)


def test_weights_that_sum_to_zero_are_an_error_only_in_a_bag_of_something(sequence):
    x, mask = sequence
    weights = torch.ones(4, 6, dtype=torch.float64)
    weights[3] = 0.0  # an empty row
    assert (bag(x, mask, weights)[3] == 0).all()
    weights[1] = 0.0
    with pytest.raises(ValueError, match="sum to 0"):
        bag(x, mask, weights)
    with pytest.raises(ValueError, match=r"\(4, 5\).*\(4, 6\)"):
        bag(x, mask, torch.ones(4, 5))
    with pytest.raises(ValueError, match=r"\(4, 6\).*\(4, 5\)"):
        TokenEmbedding(vocabulary_size=3, size=2).bag(torch.ones(4, 5, dtype=torch.int64), mask)


def at(x, row, step):
    return x[row, step] if 0 <= step < LENGTHS[row] else torch.zeros(3, dtype=torch.float64)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (2, 1), (0, 3), (8, 8)])
def test_concatenated_windows_step_by_step(sequence, left, right):
    x, mask = sequence
    got = concatenated_windows(x, mask, left=left, right=right)
    assert got.shape == (4, 6, 3 * (left + 1 + right))
    for row in range(4):
        for t in range(6):
            expected = torch.cat([at(x, row, t + d) for d in range(-left, right + 1)])
            assert torch.equal(got[row, t], expected if t < LENGTHS[row] else torch.zeros_like(expected))


@pytest.mark.parametrize(("near", "far"), [(0, 1), (1, 3), (2, 9)])
def test_hybrid_windows_step_by_step(sequence, near, far):
    x, mask = sequence
    got = hybrid_windows(x, mask, near=near, far=far)
    for row in range(4):
        for t in range(6):
            close = [at(x, row, t + d) for d in range(-near, near + 1)]
            rest = sum(at(x, row, t + d) for d in range(-far, far + 1) if abs(d) > near)
            expected = torch.cat([*close, rest])
            torch.testing.assert_close(got[row, t], expected if t < LENGTHS[row] else torch.zeros_like(expected), rtol=0, atol=1e-12)


def test_windows_that_are_none_are_refused(sequence):
    x, mask = sequence
    with pytest.raises(ValueError, match="left=-1"):
        concatenated_windows(x, mask, left=-1, right=0)
    with pytest.raises(ValueError, match=r"near=2.*far=2"):
        hybrid_windows(x, mask, near=2, far=2)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_counts_are_the_dense_product(sparse, weighted):
    layer = CountInput(vocabulary_size=30, size=4, bias=True, sparse=sparse).double()
    ids = torch.tensor([3, 3, 7, 0, 29, 5, 3])
    offsets = torch.tensor([0, 3, 3, 5])  # the second row is empty
    weights = torch.tensor([1.0, 2.0, 0.5, -1.0, 4.0, 1.0, 3.0], dtype=torch.float64) if weighted else None
    counts = torch.zeros(4, 30, dtype=torch.float64)
    for row, (start, end) in enumerate([(0, 3), (3, 3), (3, 5), (5, 7)]):
        for i in range(start, end):
            counts[row, ids[i]] += weights[i] if weighted else 1.0
    direction = torch.randn(4, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.bias.normal_()
    torch.testing.assert_close(layer(ids, offsets, weights), counts @ layer.weight + layer.bias)
    (layer(ids, offsets, weights) * direction).sum().backward()
    gradient = layer.weight.grad.to_dense() if sparse else layer.weight.grad
    torch.testing.assert_close(gradient, counts.mT @ direction)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="vocabulary_size=0"):
        TokenEmbedding(vocabulary_size=0, size=2)
    with pytest.raises(ValueError, match="size=0"):
        CountInput(vocabulary_size=4, size=0)
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        CountInput(vocabulary_size=4, size=3)(torch.ones(2, 2, dtype=torch.int64), torch.tensor([0]))


def test_a_table_starts_from_vectors_and_keeps_its_other_rows():
    vectors = torch.randn(7, 5)
    trained, fixed = TokenEmbedding(vocabulary_size=9, size=5), TokenEmbedding(vocabulary_size=9, size=5, trained=False)
    drawn = trained.weight.detach().clone()
    for embedding in (trained, fixed):
        embedding.start_from(vectors)
        assert torch.equal(embedding.weight[1:7], vectors[1:]) and not embedding.weight[0].any()
    assert torch.equal(trained.weight[7:], drawn[7:]) and not fixed.weight[7:].any()
    for wrong in (torch.zeros(7, 4), torch.zeros(10, 5), torch.zeros(5)):
        with pytest.raises(ValueError, match=r"do not fit a table of \(9, 5\)"):
            trained.start_from(wrong)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_fixed_table_is_no_parameter_and_looks_up_the_same(sparse):
    mask = masks.from_lengths(LENGTHS, 6)
    ids, upstream = ids_of(mask), torch.randn(4, 6, 5)
    trained, fixed = (TokenEmbedding(vocabulary_size=20, size=5, sparse=sparse, trained=given) for given in (True, False))
    assert not list(fixed.parameters()) and "trained=False" in repr(fixed) and "trained" not in repr(trained)
    fixed.load_state_dict(trained.state_dict())
    assert torch.equal(fixed(ids), trained(ids)) and not fixed(ids).requires_grad
    torch.testing.assert_close(fixed.bag(ids, mask), trained.bag(ids, mask))
    assert not (fixed(ids) * upstream).requires_grad


@pytest.mark.parametrize("sparse", [False, True])
def test_two_channels_are_two_tables_added_of_which_one_learns(sparse):
    mask = masks.from_lengths(LENGTHS, 6)
    ids, upstream, vectors = ids_of(mask), torch.randn(4, 6, 5), torch.randn(20, 5)
    both = TwoChannelEmbedding(vocabulary_size=20, size=5, sparse=sparse)
    assert torch.equal(both.fixed.weight, both.tuned.weight)
    both.start_from(vectors)
    assert torch.equal(both.fixed.weight, both.tuned.weight) and torch.equal(both.fixed.weight[1:], vectors[1:])
    with torch.no_grad():
        both.tuned.weight[1:] += 1.0
    fixed, tuned = vectors.clone(), vectors + 1.0
    fixed[0] = tuned[0] = 0.0
    oracle = tuned.clone().requires_grad_()
    torch.testing.assert_close(both(ids), fixed[ids] + tuned[ids])
    torch.testing.assert_close(both.bag(ids, mask), bag(fixed[ids] + tuned[ids], mask))
    (both(ids) * upstream).sum().backward()
    ((fixed[ids] + oracle[ids]) * upstream * mask.unsqueeze(-1)).sum().backward()
    (gradient,) = [parameter.grad for parameter in both.parameters()]
    assert gradient.is_sparse == sparse
    torch.testing.assert_close(gradient.to_dense() if sparse else gradient, oracle.grad)
