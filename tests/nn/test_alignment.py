"""Attention of a decoder: local windows by hand, kernels, precision, padding, what is refused.

Soft, hard and monotonic weights against loops and enumeration: tests/equations/test_section14_attention.py.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from weft.nn.alignment import ALIGNMENTS, Attention
from weft.nn.attention import attend
from weft.nn.monotonic import expected_alignment

LENGTHS = (7, 2, 5, 0)


def batch(size: int = 4, queries: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, a source with NaN as padding, and its mask; the last row is empty."""
    draw = torch.Generator().manual_seed(0)
    mask = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    query, source = (torch.randn(4, length, size, generator=draw, dtype=dtype) for length in (queries, 7))
    return query, source.masked_fill(~mask[..., None], math.nan), mask


def window_by_hand(scores: list[float], centre: float, window: int, gaussian: bool) -> list[float]:
    inside = [i for i in range(len(scores)) if abs(i - centre) <= window]
    total = sum(math.exp(scores[i]) for i in inside)
    alpha = [math.exp(score) / total if i in inside else 0.0 for i, score in enumerate(scores)]
    deviation = window / 2
    return [a * math.exp(-((i - centre) ** 2) / (2 * deviation**2)) for i, a in enumerate(alpha)] if gaussian else alpha


@pytest.mark.parametrize("position", [0, 3, 6, 20])
@pytest.mark.parametrize("window", [1, 2, 50])
def test_local_m_by_hand(position: int, window: int) -> None:
    attention = Attention(score="dot", align="local-m", query_size=4, key_size=4, window=window)
    query, source, mask = batch()
    context, weights, *_ = attention(query, attention.read(source, mask), position=position, weights=True)
    assert weights is not None
    for row, n in enumerate(LENGTHS):
        for time in range(3):
            scores = (source[row, :n] @ query[row, time]).tolist()
            expected = window_by_hand(scores, min(position, n - 1), window, gaussian=False)
            assert weights[row, time].tolist() == pytest.approx(expected + [0.0] * (7 - n), abs=1e-12)
            wanted = torch.tensor(expected, dtype=torch.float64) @ source[row, :n] if n else torch.zeros(4, dtype=torch.float64)
            torch.testing.assert_close(context[row, time], wanted, atol=1e-12, rtol=0)


def test_local_m_takes_a_number_for_each_step_or_hypothesis() -> None:
    attention = Attention(score="dot", align="local-m", query_size=4, key_size=4, window=1)
    query, source, mask = batch()
    memory = attention.read(source, mask)
    together = attention(query, memory, position=torch.arange(3)).context
    for time in range(3):
        one = attention(query[:, time : time + 1], memory, position=time).context
        torch.testing.assert_close(together[:, time : time + 1], one, atol=1e-12, rtol=0)


def test_local_m_counts_what_is_real() -> None:
    attention = Attention(score="dot", align="local-m", query_size=1, key_size=1, window=1)
    mask = torch.tensor([[False, True, True, False, False, True]])
    weights = attention(torch.zeros(1, 1, 1), attention.read(torch.ones(1, 6, 1), mask), position=2, weights=True).weights
    assert weights is not None and weights[0, 0].tolist() == [0, 0, 0.5, 0, 0, 0.5]  # the real positions 1 and 2


@pytest.mark.parametrize("window", [1, 4])
def test_local_p_by_hand(window: int) -> None:
    attention = Attention(score="general", align="local-p", query_size=4, key_size=4, hidden_size=5, window=window).double()
    query, source, mask = batch()
    context, weights, *_ = attention(query, attention.read(source, mask), position=99, weights=True)
    assert weights is not None and attention.place is not None
    inner, _, last = attention.place
    for row, n in enumerate(LENGTHS):
        for time in range(3):
            s = query[row, time]
            centre = n * torch.sigmoid(last.weight[0] @ torch.tanh(inner.weight @ s)).item()
            scores = (source[row, :n] @ (attention.score.weight.mT @ s)).tolist()
            expected = window_by_hand(scores, centre, window, gaussian=True)
            assert weights[row, time].tolist() == pytest.approx(expected + [0.0] * (7 - n), abs=1e-12)
            assert not n or 0 < sum(expected) < 1
    torch.testing.assert_close(context, weights @ source.nan_to_num(0.0), atol=1e-12, rtol=0)
    assert torch.autograd.grad(context.square().sum(), inner.weight)[0].abs().max() > 1e-6  # the place is learnt through the Gaussian


def test_scaled_dot_without_weights_is_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    query, source, mask = batch()
    calls: list[int] = []  # the dimensions of what the kernel is given: it is one for four, and written out for three
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *x, **named: calls.append(x[0].ndim) or kernel(*x, **named))
    attention = Attention(score="scaled-dot", query_size=4, key_size=4)
    memory = attention.read(source, mask)
    fast = attention(query, memory)
    assert calls == [4] and fast.weights is None
    slow = attention(query, memory, weights=True)
    assert calls == [4] and slow.weights is not None
    torch.testing.assert_close(fast.context, slow.context, atol=1e-12, rtol=0)


def test_a_source_is_projected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = Attention(query_size=4, key_size=4, hidden_size=6).double()
    query, source, mask = batch()
    prepared: list[int] = []
    prepare = attention.score.prepare
    monkeypatch.setattr(attention.score, "prepare", lambda key: prepared.append(1) or prepare(key))
    memory = attention.read(source, mask)
    steps = [attention(query[:, t : t + 1], memory).context for t in range(3)]
    assert prepared == [1]
    torch.testing.assert_close(torch.cat(steps, 1), attention(query, memory).context, atol=1e-12, rtol=0)


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("training", [True, False])
def test_padding_is_not_seen_and_nothing_gives_zeros(align: str, training: bool) -> None:
    attention = Attention(align=align, query_size=4, key_size=4, hidden_size=6, window=2, noise=0.0).double().train(training)
    query, source, mask = batch()
    clean = source.nan_to_num(0.0).requires_grad_()
    torch.manual_seed(1)
    attended = attention(query, attention.read(clean, mask), position=1, weights=True)
    assert attended.weights is not None
    assert attended.context.isfinite().all() and not attended.context[3].any()
    assert not attended.weights.masked_select(~mask[:, None]).any()
    loss = attended.context.square().sum() + (0.0 if attended.log_choice is None else attended.log_choice.sum())
    (gradient,) = torch.autograd.grad(loss, clean)
    assert gradient.isfinite().all() and not gradient[~mask].any() and gradient[mask].any()
    if align != "hard" or not training:  # what is drawn depends on the shape
        alone = attention(query[1:2], attention.read(source[1:2, :2], mask[1:2, :2]), position=1).context
        torch.testing.assert_close(alone, attended.context[1:2], atol=1e-12, rtol=0)


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_hypotheses_of_one_source_are_as_if_alone(align: str) -> None:
    attention = Attention(score="biaffine", align=align, query_size=4, key_size=4, window=2).double().eval()
    query, source, mask = batch()
    memory = attention.read(source, mask)
    together = attention(query, memory, position=1)
    for one in range(3):
        alone = attention(query[:, one : one + 1], memory, position=1)
        torch.testing.assert_close(alone.context, together.context[:, one : one + 1], atol=1e-12, rtol=0)
        if align == "monotonic":
            assert alone.state is not None and together.state is not None
            torch.testing.assert_close(alone.state, together.state[:, one : one + 1], atol=1e-12, rtol=0)
        else:
            assert together.state is None


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_bf16_is_within_its_rounding(align: str) -> None:
    attention = Attention(align=align, query_size=4, key_size=4, hidden_size=6, window=3, noise=0.0)
    query, source, mask = batch(dtype=torch.float32)
    if align == "hard":
        attention.eval()
    exact = attention(query, attention.read(source, mask)).context
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attended = attention(query, attention.read(source, mask))
    torch.testing.assert_close(attended.context.float(), exact, atol=0.06, rtol=0.05)
    assert attended.state is None or attended.state.dtype == torch.float32


def test_wrong_calls_are_named() -> None:
    with pytest.raises(ValueError, match=r"no alignment 'sofa'; there are: soft, hard, monotonic, local-m, local-p"):
        Attention(align="sofa", query_size=4, key_size=4)
    with pytest.raises(ValueError, match=r"window=0"):
        Attention(align="local-m", query_size=4, key_size=4, window=0)
    with pytest.raises(ValueError, match=r"noise=-1"):
        Attention(align="monotonic", query_size=4, key_size=4, noise=-1)
    with pytest.raises(ValueError, match=r"'additive' takes no widow"):
        Attention(query_size=4, key_size=4, widow=3)
    attention = Attention(query_size=4, key_size=4)
    query, source, mask = batch(dtype=torch.float32)
    memory = attention.read(source, mask)
    with pytest.raises(ValueError, match=r"for 4 sources, got \(2, 3, 4\)"):
        attention(query[:2], memory)
    with pytest.raises(ValueError, match=r"size 3.*query_size=4"):
        attention(query[..., :3], memory)
    with pytest.raises(ValueError, match=r"\(4, 6\).*\(4, 7, 4\)"):
        attention.read(source, mask[:, :6])
    with pytest.raises(ValueError, match=r"4 positions.*over 5"):
        expected_alignment(torch.zeros(2, 4), torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"7 positions.*over 6"):
        attend(query, source, source, mask, previous=torch.zeros(4, 3, 6))
