"""Scores: what is worked out once a source, shapes, and what is refused. The formulas: tests/equations/test_section14_attention.py."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from weft.nn.scores import SCORES, make_score

PARAMETERS = {  # of a query of size 4, a key of size 4 and 6 hidden units
    "cosine": 0, "additive": 6 * (4 + 4) + 6, "location": 512 * 4, "general": 16, "dot": 0, "scaled-dot": 0,
    "biaffine": 16 + 8 + 1, "mlp": (6 * 8 + 6) + (36 + 6) + 6,
}  # fmt: skip


@pytest.mark.parametrize("name", SCORES)
def test_parameters_are_counted(name: str) -> None:
    score = make_score(name, query_size=4, key_size=4, hidden_size=6)
    assert sum(parameter.numel() for parameter in score.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", SCORES)
def test_any_leading_sizes(name: str) -> None:
    score = make_score(name, query_size=4, key_size=4, hidden_size=6)
    query, key = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4)
    together = score(query, score.keys(key))
    assert together.shape == (2, 3, 5, 7)
    torch.testing.assert_close(together[1, 2], score(query[1, 2], score.keys(key[1, 2])), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["additive", "mlp", "general", "biaffine"])
def test_a_step_never_touches_what_is_large_about_the_source(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No matrix product with the key's weights is left to a step: all of those with S rows are in `keys`."""
    score = make_score(name, query_size=4, key_size=4, hidden_size=6, **({"layers": 1} if name == "mlp" else {}))
    keys = score.keys(torch.randn(2, 7, 4))
    rows = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda x, *rest: rows.append(x.shape[-2]) or linear(x, *rest))
    score(torch.randn(2, 3, 4), keys)
    assert set(rows) <= {3}
    score.keys(torch.randn(2, 7, 4))
    assert 7 in rows


def test_the_joined_tensor_may_be_written_over() -> None:
    """tanh in place leaves query, keys and their gradients as they are."""
    score = make_score("additive", query_size=3, key_size=3, hidden_size=4).double()
    query, key = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True), torch.randn(1, 5, 3, dtype=torch.float64)
    keys = score.keys(key)
    before = keys.clone()
    first = score(query, keys)
    assert torch.equal(keys, before) and torch.equal(first, score(query, keys))
    first.sum().backward()
    assert query.grad is not None and query.grad.any()


def test_wrong_calls_are_named() -> None:
    with pytest.raises(ValueError, match=r"no score 'cosin'; there are: cosine, additive"):
        make_score("cosin", query_size=4, key_size=4)
    for name in ("dot", "scaled-dot", "cosine"):
        with pytest.raises(ValueError, match=r"one size here, not query_size=4 and key_size=6"):
            make_score(name, query_size=4, key_size=6)
    with pytest.raises(ValueError, match=r"'dot' takes no bias; it takes: nothing"):
        make_score("dot", query_size=4, key_size=4, bias=True)
    with pytest.raises(ValueError, match=r"'additive' takes no layers; it takes: hidden_size, bias"):
        make_score("additive", query_size=4, key_size=4, layers=2)
    for name, wrong in (
        ("additive", {"hidden_size": 0}),
        ("mlp", {"layers": 0}),
        ("location", {"maximum_length": 0}),
        ("cosine", {"sharpness": 0}),
        ("general", {"key_size": 0}),
    ):
        with pytest.raises(ValueError, match=rf"{next(iter(wrong))}=0"):
            make_score(name, **{"query_size": 4, "key_size": 4, **wrong})
    score = make_score("general", query_size=4, key_size=3)
    with pytest.raises(ValueError, match=r"keys of size 5.*key_size=3"):
        score.keys(torch.zeros(2, 7, 5))
    with pytest.raises(ValueError, match=r"queries of size 5.*query_size=4"):
        score(torch.zeros(2, 1, 5), score.keys(torch.zeros(2, 7, 3)))
