"""The chain against itself step by step in torch, which is held against all paths in equations/test_section11_crf.py; and its edges."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from weft.nn import crf, crf_kernels
from weft.nn.crf import CRF, Chain, Emissions, chain_loss, k_best, log_partition, marginals, path_score, viterbi

DOUBLE = torch.float64
INFINITY = float("inf")


def chain(labels: int, seed: int = 0, scale: float = 1.0, forbidden: float = 0.0, dtype: torch.dtype = DOUBLE) -> Chain:
    """Random weights, some of them −inf; label 0 may follow and be followed by anything, so that a path is always legal."""
    draw = torch.Generator().manual_seed(seed)
    parts = []
    for shape in ((labels, labels), (labels,), (labels,)):
        part = scale * torch.randn(shape, generator=draw, dtype=dtype)
        part[torch.rand(shape, generator=draw) < forbidden] = -INFINITY
        part[..., 0] = part[..., 0].clamp(min=-scale)
        part[0] = part[0].clamp(min=-scale)
        parts.append(part)
    return Chain(*parts)


def some(
    lengths: list[int], labels: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = DOUBLE, padding: float = float("nan")
) -> tuple[Tensor, Tensor]:
    """Logits and mask."""
    mask = torch.arange(max(lengths, default=0)) < torch.tensor(lengths)[:, None]
    logits = scale * torch.randn(*mask.shape, labels, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return logits.masked_fill(~mask[..., None], padding), mask


def learning(links: Chain) -> Chain:
    return Chain(*(part.clone().requires_grad_() for part in (links.transitions, links.start, links.end)))


def both(logits: Tensor, mask: Tensor, links: Chain, tags: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Losses and gradients, weighted row by row: of the kernels, of torch step by step."""
    found = []
    for how in (lambda x, c: chain_loss(Emissions(x, mask, c), tags), lambda x, c: crf._by_steps(x, mask, c, tags)):
        x, c = logits.clone().requires_grad_(), learning(links)
        losses = how(x, c)
        weights = torch.linspace(1, 2, len(losses), dtype=losses.dtype)
        gradients = torch.autograd.grad((losses * weights).sum(), [x, c.transitions, c.start, c.end])
        found.append([losses.detach(), *gradients])
    return found[0], found[1]


def agree(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-10) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("labels", [1, 2, 3, 8, 17])
@pytest.mark.parametrize("forbidden", [0.0, 0.4])
def test_kernels_equal_torch_step_by_step(labels: int, forbidden: float) -> None:
    logits, mask = some([6, 0, 1, 9, 4, 2], labels)
    links = chain(labels, forbidden=forbidden)
    tags = viterbi(Emissions(logits, mask, links))[0]  # a legal path
    ours, theirs = both(logits, mask, links, tags)
    agree(ours, theirs)
    assert (ours[1][~mask] == 0).all()
    assert (ours[2][links.transitions == -INFINITY] == 0).all()


@pytest.mark.parametrize("scale", [30.0, 300.0, 1000.0, 1e5])
@pytest.mark.parametrize("forbidden", [0.0, 0.5])
def test_extreme_scores_are_exact(scale: float, forbidden: float) -> None:
    logits, mask = some([12, 3, 1, 7], 6, scale=scale)
    links = chain(6, scale=scale, forbidden=forbidden)
    tags = viterbi(Emissions(logits, mask, links))[0]
    agree(*both(logits, mask, links, tags), tolerance=1e-12 * scale)  # float64's own rounding of such sums


def test_what_is_a_thousand_below_the_best_is_not_lost_where_all_paths_come_to_it() -> None:
    # only label 1 may end, only label 1 leads to it, and label 1 is e^−1000 of label 0 at every step
    transitions = torch.tensor([[0.0, -INFINITY], [-INFINITY, 0.0]], dtype=DOUBLE)
    links = Chain(transitions, torch.zeros(2, dtype=DOUBLE), torch.tensor([-INFINITY, 0.0], dtype=DOUBLE))
    logits = torch.tensor([1000.0, -1000.0], dtype=DOUBLE).expand(1, 5, 2)
    emissions = Emissions(logits, torch.ones(1, 5, dtype=torch.bool), links)
    assert log_partition(emissions).item() == -5000
    assert marginals(emissions)[0].tolist() == [[0, 1]] * 5
    assert [part.tolist() for part in viterbi(emissions)] == [[[1] * 5], [-5000]]


def test_finite_numbers_that_stand_for_minus_infinity_are_exact_too() -> None:
    links = chain(5)
    links.transitions[1:, 2:] = -10000
    links.start[1:] = -10000
    logits, mask = some([8, 5], 5)
    tags = torch.ones_like(mask, dtype=torch.int64)
    agree(*both(logits, mask, links, tags), tolerance=1e-9)


@pytest.mark.parametrize("place", ["middle", "last"])
def test_not_a_number_is_passed_on(place: str) -> None:
    logits, mask = some([5, 4], 3)
    logits[0, 2 if place == "middle" else 4, 1] = float("nan")
    logits.requires_grad_()
    losses = chain_loss(Emissions(logits, mask, chain(3)), torch.zeros_like(mask, dtype=torch.int64))
    assert losses.isnan().tolist() == [True, False]
    losses[1].backward()
    assert logits.grad is not None and logits.grad[1].isfinite().all()


def test_a_logit_of_minus_infinity_forbids_a_label_at_its_place() -> None:
    logits, mask = some([6, 3], 4)
    logits[0, 2, 1:] = -INFINITY
    links = chain(4)
    assert (marginals(Emissions(logits, mask, links))[0, 2] == torch.tensor([1.0, 0, 0, 0])).all()
    tags = torch.zeros_like(mask, dtype=torch.int64)
    agree(*both(logits, mask, links, tags))
    with pytest.raises(ValueError, match="row 0 are forbidden by the chain: a label whose logit is −inf"):
        chain_loss(Emissions(logits, mask, links), tags + 1)


def test_gradients_by_finite_differences_and_a_second_time() -> None:
    logits, mask = some([4, 1, 0, 3], 3, padding=0.5)
    links, tags = chain(3), torch.randint(3, mask.shape, generator=torch.Generator().manual_seed(1))
    inputs = [part.clone().requires_grad_() for part in (logits, links.transitions, links.start, links.end)]

    def losses(x: Tensor, transitions: Tensor, start: Tensor, end: Tensor) -> Tensor:
        return chain_loss(Emissions(x, mask, Chain(transitions, start, end)), tags)

    def totals(x: Tensor, transitions: Tensor, start: Tensor, end: Tensor) -> Tensor:
        return log_partition(Emissions(x, mask, Chain(transitions, start, end)))

    for function in (losses, totals):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


def test_micro_batches_add_up() -> None:
    logits, mask = some([9, 2, 7, 7, 0, 5, 1, 8], 7)
    links, tags = chain(7), torch.randint(7, mask.shape, generator=torch.Generator().manual_seed(1))

    def gradients(*parts: slice) -> list[Tensor]:
        x, c = logits.clone().requires_grad_(), learning(links)
        for part in parts:
            (chain_loss(Emissions(x[part], mask[part], c), tags[part]).sum() / 8).backward()
        return [tensor.grad for tensor in (x, c.transitions, c.start, c.end)]  # type: ignore[misc]

    agree(gradients(slice(0, 3), slice(3, 4), slice(4, 8)), gradients(slice(0, 8)), tolerance=1e-12)


def test_batch_mates_and_padding_change_nothing_at_all() -> None:
    logits, mask = some([1, 500, 7], 5, dtype=torch.float32)
    links, tags = chain(5, dtype=torch.float32), torch.ones_like(mask, dtype=torch.int64)
    whole = Emissions(logits, mask, links)
    for row, length in enumerate((1, 500, 7)):
        alone = Emissions(logits[row : row + 1, :length], mask[row : row + 1, :length], links)
        assert torch.equal(chain_loss(whole, tags)[row], chain_loss(alone, tags[row : row + 1, :length])[0])
        assert torch.equal(marginals(whole)[row, :length], marginals(alone)[0])
        for part, single in zip(viterbi(whole), viterbi(alone), strict=True):
            assert torch.equal(part[row][:length] if part.dim() > 1 else part[row], single[0])
    filled = Emissions(logits.masked_fill(~mask[..., None], 7.0), mask, links)
    away = tags.masked_fill(~mask, -100)
    assert torch.equal(chain_loss(filled, away), chain_loss(whole, tags))
    assert torch.equal(path_score(filled, away), path_score(whole, tags))
    assert (marginals(whole)[~mask] == 0).all() and (viterbi(whole)[0][~mask] == 0).all()


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crf_kernels, "SHARE", 1)
    started: list[int] = []
    real = crf_kernels.threading.Thread
    monkeypatch.setattr(crf_kernels.threading, "Thread", lambda **given: started.append(1) or real(**given))
    logits, mask = some([5, 0, 60, 3, 3, 1, 9, 30], 6)
    links, tags = chain(6, forbidden=0.3), torch.zeros_like(mask, dtype=torch.int64)
    emissions, before = Emissions(logits, mask, links), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            found.append([*both(logits, mask, links, tags)[0], *viterbi(emissions), *k_best(emissions, 3), marginals(emissions)])
    finally:
        torch.set_num_threads(before)
    assert started
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_five_thousand_tokens() -> None:
    logits, mask = some([5000, 1], 4, scale=3.0)
    links = chain(4)
    tags, scores = viterbi(Emissions(logits, mask, links))
    ours, theirs = both(logits, mask, links, tags)
    agree(ours[:1], theirs[:1], tolerance=1e-9)
    agree(ours[1:], theirs[1:], tolerance=1e-8)
    torch.testing.assert_close(scores, path_score(Emissions(logits, mask, links), tags))
    single = Emissions(logits.float(), mask, Chain(*(part.float() for part in (links.transitions, links.start, links.end))))
    exact = log_partition(Emissions(single.logits.double(), mask, links))
    torch.testing.assert_close(
        log_partition(single).double(), exact, rtol=3e-7, atol=0
    )  # summed in float64: no more than the inputs' rounding


def test_rows_without_tokens() -> None:
    links = learning(chain(3))
    for logits, mask in (some([0, 2, 0], 3), some([0, 0], 3), (torch.zeros(2, 0, 3, dtype=DOUBLE), torch.zeros(2, 0, dtype=torch.bool))):
        logits.requires_grad_()
        emissions, tags = Emissions(logits, mask, links), torch.zeros_like(mask, dtype=torch.int64)
        empty = ~mask.any(1)
        for part in (log_partition(emissions), path_score(emissions, tags), chain_loss(emissions, tags), viterbi(emissions)[1]):
            assert (part[empty] == 0).all()
        assert k_best(emissions, 2)[1][empty].tolist() == [[0, -INFINITY]] * int(empty.sum())
        chain_loss(emissions, tags).sum().backward()
        assert marginals(emissions).shape == logits.shape
    nothing = Emissions(torch.zeros(0, 3, 2), torch.zeros(0, 3, dtype=torch.bool), CRF(labels=2).chain())
    assert chain_loss(nothing, torch.zeros(0, 3, dtype=torch.int64)).shape == viterbi(nothing)[1].shape == (0,)


def test_independent_tokens_are_the_chain_of_zeros() -> None:
    logits, mask = some([4, 0, 1, 6], 3)
    alone, zeros = Emissions(logits, mask), Emissions(logits, mask, CRF(labels=3).double().chain())
    tags = torch.randint(3, mask.shape, generator=torch.Generator().manual_seed(1))
    for function in (
        log_partition,
        marginals,
        viterbi,
        lambda e: k_best(e, 5),
        lambda e: path_score(e, tags),
        lambda e: chain_loss(e, tags),
    ):
        one, two = function(alone), function(zeros)
        agree(list(one) if isinstance(one, tuple) else [one], list(two) if isinstance(two, tuple) else [two])
    logits.requires_grad_()
    chain_loss(Emissions(logits, mask), tags).sum().backward()
    assert logits.grad is not None and (logits.grad[~mask] == 0).all() and logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    logits, mask = some([4, 2], 3, dtype=torch.float32)
    links, tags = chain(3, dtype=torch.float32), torch.zeros_like(mask, dtype=torch.int64)
    short = logits.to(dtype).requires_grad_()
    losses = chain_loss(Emissions(short, mask, links), tags)
    assert losses.dtype == torch.float32 and torch.equal(losses, chain_loss(Emissions(logits.to(dtype).float(), mask, links), tags))
    losses.sum().backward()
    assert short.grad is not None and short.grad.dtype == dtype
    assert {part.dtype for part in (log_partition(Emissions(short, mask)), marginals(Emissions(short, mask)))} == {torch.float32}


def spans(types: int, scheme: str) -> tuple[Tensor, Tensor, Tensor]:
    """What is legal among O, then B-, I- (and E-, S-) of each type: start, transitions, end."""
    kinds = "BI" if scheme == "BIO" else "BIES"
    labels = [("O", -1), *((kind, one) for one in range(types) for kind in kinds)]

    def follows(a: tuple[str, int], b: tuple[str, int]) -> bool:
        if scheme == "BIO":
            return b[0] != "I" or (a[0] in "BI" and a[1] == b[1])
        return (b[0] in "IE" and a[1] == b[1]) if a[0] in "BI" else b[0] in "OBS"

    start = torch.tensor([follows(("O", -1), b) for b in labels])
    end = torch.tensor([scheme == "BIO" or a[0] in "OES" for a in labels])
    return start, torch.tensor([[follows(a, b) for b in labels] for a in labels]), end


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["BIO", "BIOES"]), st.sampled_from([0.1, 3.0, 1000.0]), st.integers(1, 3))
def test_constraints_are_never_violated(seed: int, scheme: str, scale: float, types: int) -> None:
    start, transitions, end = spans(types, scheme)
    model = CRF(labels=len(start), allowed=(start, transitions, end))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=draw))
    logits, mask = some([7, 1, 3, 0, 2], len(start), seed=seed, scale=scale, dtype=torch.float32)
    emissions = Emissions(logits, mask, model.chain())
    tags, scores = k_best(emissions, 4)
    for row, length in enumerate(mask.sum(1).tolist()):
        for path, score in zip(tags[row, :, :length].tolist(), scores[row].tolist(), strict=True):
            if length and score > -INFINITY:
                assert start[path[0]] and end[path[-1]] and all(transitions[a, b] for a, b in itertools.pairwise(path))
    best, most = viterbi(emissions)
    assert torch.equal(most, scores[:, 0])
    chain_loss(emissions, best).sum().backward()
    assert model.transitions.grad is not None and (model.transitions.grad[~transitions] == 0).all()
    assert model.start.grad is not None and (model.start.grad[~start] == 0).all()
    assert (marginals(emissions)[:, 0][:, ~start] == 0).all()


def test_the_module_starts_as_independent_labels_and_keeps_its_constraints() -> None:
    start, transitions, end = spans(2, "BIO")
    model = CRF(labels=5, allowed=(start.numpy(), transitions.numpy(), end.numpy()))
    assert {name: tuple(weights.shape) for name, weights in model.named_parameters()} == {"transitions": (5, 5), "start": (5,), "end": (5,)}
    assert torch.equal(model.chain().transitions == -INFINITY, ~transitions) and torch.equal(model.chain().start == -INFINITY, ~start)
    assert sum(float(weights.detach().abs().sum()) for weights in model.parameters()) == 0
    other = CRF(labels=5, allowed=(torch.ones(5), torch.ones(5, 5), torch.ones(5)))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.chain().transitions == -INFINITY, ~transitions)
    with pytest.raises(ValueError, match=r"transitions \(5, 4\) must be \(5, 5\)"):
        CRF(labels=5, allowed=(start, transitions[:, :4], end))
    with pytest.raises(ValueError, match="labels=0"):
        CRF(labels=0)


def test_learning_finds_the_rule_that_no_token_tells() -> None:
    """Labels alternate whatever the tokens say: logits cannot know, transitions can."""
    model, mask = CRF(labels=2), torch.ones(16, 9, dtype=torch.bool)
    tags = (torch.arange(9) + torch.arange(16)[:, None]) % 2
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        chain_loss(Emissions(torch.zeros(16, 9, 2), mask, model.chain()), tags).mean().backward()
        optimizer.step()
    logits = torch.zeros(1, 9, 2)
    logits[0, 0, 1] = 5.0
    assert viterbi(Emissions(logits, mask[:1], model.chain()))[0].tolist() == [[1, 0, 1, 0, 1, 0, 1, 0, 1]]


LOGITS, MASK = some([3, 2], 4, padding=0.0)
TAGS = torch.zeros_like(MASK, dtype=torch.int64)
NOWHERE = Chain(torch.full((4, 4), -INFINITY), torch.zeros(4), torch.zeros(4))


@pytest.mark.parametrize(
    ("emissions", "tags", "message"),
    [
        (Emissions(LOGITS[0], MASK, None), TAGS, r"logits \(3, 4\) must be \(B, T, K\)"),
        (Emissions(LOGITS[..., :0], MASK, None), TAGS, r"logits \(2, 3, 0\) must be .* at least one label"),
        (Emissions(LOGITS, MASK[:, :2], None), TAGS, r"mask \(2, 2\) must be \(2, 3\)"),
        (Emissions(LOGITS, torch.tensor([[True] * 3, [True, False, True]]), None), TAGS, "row 1 has a hole"),
        (Emissions(LOGITS, MASK, None), TAGS[:1], r"tags \(1, 3\) must be \(2, 3\)"),
        (Emissions(LOGITS, MASK, None), TAGS + 4, "tag 4 must be in 0 … 3"),
        (Emissions(LOGITS, MASK, chain(4)), TAGS - 1, "tag -1 must be in 0 … 3"),
        (Emissions(LOGITS, MASK, chain(3)), TAGS, r"transitions \(3, 3\) must be \(4, 4\), as the logits have 4 labels"),
        (Emissions(LOGITS, MASK, Chain(torch.zeros(4, 4), torch.zeros(3), torch.zeros(4))), TAGS, r"start \(3,\) must be \(4,\)"),
        (Emissions(LOGITS, MASK, NOWHERE), TAGS, "no path is legal for row 0 of 3 tokens: log Z would be −inf"),
    ],
)
def test_what_does_not_fit_is_refused(emissions: Emissions, tags: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chain_loss(emissions, tags)


@pytest.mark.parametrize("function", [log_partition, marginals, viterbi, lambda e: k_best(e, 2)])
def test_no_legal_path_is_refused_by_all(function) -> None:
    assert function(Emissions(LOGITS[:, :1], MASK[:, :1], NOWHERE)) is not None  # one token needs no transition
    with pytest.raises(ValueError, match="row 0 of 3 tokens"):
        function(Emissions(LOGITS, MASK, NOWHERE))


@pytest.mark.parametrize(("path", "step"), [([1, 0, 0], "the start with 1"), ([0, 1, 2], "1 → 2"), ([0, 0, 3], "the end with 3")])
@pytest.mark.parametrize("way", [chain_loss, lambda e, tags: crf._by_steps(e.logits, e.mask, e.chain, tags)])
def test_forbidden_gold_tags_are_named(path: list[int], step: str, way) -> None:
    links = chain(4)
    links.start[1] = links.transitions[1, 2] = links.end[3] = -INFINITY
    with pytest.raises(ValueError, match=f"tags of row 1 are forbidden by the chain: {step}"):
        way(Emissions(LOGITS.flip(0), MASK.flip(0), links), torch.tensor([[0, 0, 0], path]))


def test_k_must_be_one_at_least() -> None:
    with pytest.raises(ValueError, match="k=0"):
        k_best(Emissions(LOGITS, MASK), 0)


def test_without_gradients_none_are_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    real = crf_kernels.sums
    monkeypatch.setattr(
        crf_kernels,
        "sums",
        lambda *given, gradients, threads: asked.append(gradients) or real(*given, gradients=gradients, threads=threads),
    )
    with torch.no_grad():
        chain_loss(Emissions(LOGITS.clone().requires_grad_(), MASK, chain(4)), TAGS)
    chain_loss(Emissions(LOGITS, MASK, chain(4)), TAGS)
    chain_loss(Emissions(LOGITS.clone().requires_grad_(), MASK, chain(4)), TAGS)
    assert asked == [False, False, True]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_gives_the_same() -> None:
    logits, mask = some([6, 0, 1, 9], 5)
    links, tags = chain(5, forbidden=0.3), torch.zeros_like(mask, dtype=torch.int64)
    there = Emissions(logits.cuda(), mask.cuda(), Chain(*(part.cuda() for part in (links.transitions, links.start, links.end))))
    here = Emissions(logits, mask, links)
    there.logits.requires_grad_()
    agree([chain_loss(there, tags.cuda()).detach().cpu(), marginals(there).cpu()], [chain_loss(here, tags), marginals(here)])
    for one, two in zip((*viterbi(there), *k_best(there, 3)), (*viterbi(here), *k_best(here, 3)), strict=True):
        assert one.is_cuda and torch.equal(one.cpu(), two)
