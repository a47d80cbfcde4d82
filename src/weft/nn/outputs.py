"""Output layers over a vocabulary: vectors → log-probabilities of words, exactly or, in training, at less than V products a vector.

Every one is called with (hidden (N, D), targets (N,) ids) and gives (N,), the negative log-likelihood of each target, −log p(t | h); and
has `log_probabilities(hidden)` → (N, V), exact, whose exponentials sum to one. A target is always a word: positions that do not count are
left out before. Wrong shapes raise ValueError; an id that is no word raises IndexError.

Tied weights: Press & Wolf (2017), Inan et al. (2017). Adaptive: Grave et al. (2017). Sampled: Bengio & Senécal (2008), Jean et al. (2015),
Ma & Collins (2018). Hierarchical: Morin & Bengio (2005), Mnih & Hinton (2009) over Huffman's tree (E43, E44).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Module

from weft.nn.initialisation import normal_


class Output(Module):
    """What output layers share: sizes, the start of weights, and what is refused."""

    def __init__(self, *, size: int, vocabulary_size: int) -> None:
        super().__init__()
        if min(size, vocabulary_size) < 1:
            raise ValueError(f"sizes are at least 1, got {size=}, {vocabulary_size=}")
        self.size, self.vocabulary_size = size, vocabulary_size

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """hidden (N, D), targets (N,) → −log p(target | hidden), (N,)."""
        raise NotImplementedError

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """hidden (N, D) → log p(w | hidden) of every word, (N, V)."""
        raise NotImplementedError

    def _check(self, hidden: Tensor, targets: Tensor | None = None) -> None:
        if hidden.dim() != 2 or hidden.shape[1] != self.size:
            raise ValueError(f"hidden is (N, {self.size}), got {tuple(hidden.shape)}")
        if targets is not None and targets.shape != hidden.shape[:1]:
            raise ValueError(f"{len(hidden)} vectors need {len(hidden)} targets, got {tuple(targets.shape)}")

    def extra_repr(self) -> str:
        return f"size={self.size}, vocabulary_size={self.vocabulary_size}"


class FullOutput(Output):
    """p = softmax(Wh + b), all V scores worked out (E80). `std`: of the normal start, 1/√D where none is given."""

    def __init__(self, *, size: int, vocabulary_size: int, bias: bool = True, std: float | None = None) -> None:
        super().__init__(size=size, vocabulary_size=vocabulary_size)
        self.weight = nn.Parameter(torch.empty(vocabulary_size, size))
        normal_(self.weight, std=size**-0.5 if std is None else std)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size)) if bias else None

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, D) → (N, V)."""
        self._check(hidden)
        return F.linear(hidden, self.weight, self.bias)

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        self._check(hidden, targets)
        return F.cross_entropy(_widened(self.logits(hidden)), targets, reduction="none")

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        return F.log_softmax(_widened(self.logits(hidden)), -1)


class TiedOutput(Output):
    """p = softmax(E P h + b), E the embeddings of the words themselves (E105; Press & Wolf, 2017).

    weight: the embedding layer's parameter, of whose rows the first V are the words; it stays that layer's, and is saved as its own alone.
    P, (E, D), is there only where the vectors are not as wide as the embeddings.
    """

    def __init__(self, *, size: int, vocabulary_size: int, weight: Tensor, bias: bool = True) -> None:
        super().__init__(size=size, vocabulary_size=vocabulary_size)
        if weight.dim() != 2 or len(weight) < vocabulary_size:
            raise ValueError(f"tied weights are at least {vocabulary_size} rows, got {tuple(weight.shape)}")
        self._lent = (weight,)  # in a tuple, so that it does not become a parameter of this layer too
        self.project = nn.Linear(size, weight.shape[1], bias=False) if weight.shape[1] != size else nn.Identity()
        self.bias = nn.Parameter(torch.zeros(vocabulary_size)) if bias else None

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, D) → (N, V)."""
        self._check(hidden)
        return F.linear(self.project(hidden), self._lent[0][: self.vocabulary_size], self.bias)

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        self._check(hidden, targets)
        return F.cross_entropy(_widened(self.logits(hidden)), targets, reduction="none")

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        return F.log_softmax(_widened(self.logits(hidden)), -1)


class AdaptiveOutput(Output):
    """Words in clusters by frequency, the frequent ones in a head together with one entry a cluster (Grave et al., 2017).

    p(w) = p_head(w) of a frequent word, p_head(cluster) · p_cluster(w | h) of another; cluster i (from 1) sees h through D/factor^i units.
    counts (V,): of the words, by which they are ranked, ties by id; without them a smaller id is taken to be more frequent. cutoffs:
    the ranks at which clusters begin, ascending, within 1 … V − 1; by default V/20 and V/4.
    """

    order: Tensor
    rank: Tensor

    def __init__(
        self,
        *,
        size: int,
        vocabulary_size: int,
        counts: Sequence[int] | np.ndarray | None = None,
        cutoffs: Sequence[int] | None = None,
        factor: float = 4.0,
        bias: bool = True,
    ) -> None:
        super().__init__(size=size, vocabulary_size=vocabulary_size)
        if cutoffs is None:
            cutoffs = [cut for cut in dict.fromkeys((vocabulary_size // 20, vocabulary_size // 4)) if cut]
        if list(cutoffs) != sorted(set(cutoffs)) or any(not 0 < cut < vocabulary_size for cut in cutoffs):
            raise ValueError(f"cutoffs ascend within 1 … {vocabulary_size - 1}, got {list(cutoffs)}")
        if not factor >= 1:
            raise ValueError(f"{factor=} must be at least 1")
        self.bounds = [*cutoffs, vocabulary_size]
        ranked = _ranked(counts, vocabulary_size)
        self.register_buffer("order", torch.from_numpy(ranked))  # the word of each rank
        self.register_buffer("rank", torch.from_numpy(np.argsort(ranked)))
        self.head = nn.Linear(size, self.bounds[0] + len(cutoffs), bias=bias)
        normal_(self.head.weight, std=size**-0.5)
        self.clusters = nn.ModuleList()
        for index, (start, end) in enumerate(zip(self.bounds, self.bounds[1:], strict=False), 1):
            narrow = max(1, int(size / factor**index))
            down, up = nn.Linear(size, narrow, bias=False), nn.Linear(narrow, end - start, bias=False)
            normal_(down.weight, std=size**-0.5)
            normal_(up.weight, std=narrow**-0.5)
            self.clusters.append(nn.Sequential(down, up))

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        self._check(hidden, targets)
        ranks, shortlist = self.rank[targets], self.bounds[0]
        cluster = torch.bucketize(ranks, torch.tensor(self.bounds[:-1], device=ranks.device), right=True)  # 0 is the head
        entry = torch.where(cluster == 0, ranks, shortlist + cluster - 1)
        loss = F.cross_entropy(_widened(self.head(hidden)), entry, reduction="none")
        for index, layer in enumerate(self.clusters):
            rows = (cluster == index + 1).nonzero()[:, 0]
            if len(rows):
                inside = F.cross_entropy(_widened(layer(hidden.index_select(0, rows))), ranks[rows] - self.bounds[index], reduction="none")
                loss = loss.index_add(0, rows, inside)
        return loss

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        self._check(hidden)
        head = F.log_softmax(_widened(self.head(hidden)), -1)
        shortlist = self.bounds[0]
        parts = [head[:, :shortlist]]
        for index, layer in enumerate(self.clusters):
            parts.append(head[:, shortlist + index, None] + F.log_softmax(_widened(layer(hidden)), -1))
        return torch.cat(parts, 1)[:, self.rank]


class SampledOutput(FullOutput):
    """Softmax among the target and a few words drawn anew at every step; all words in eval mode (Jean et al., 2015).

    A set S is drawn for all vectors of a call: word w is in it with probability π_w = 1 − (1 − q_w)^samples, as likely as among `samples`
    draws from the proposal q. With o = Wh + b, the estimate of −log p(t) is −log of t's share of Σ_{w ∈ S ∪ t} exp(o_w − log π_w). A word
    of S that is a vector's own target counts once, as the target: accidental hits are removed. As words are in S independently of each
    other, P(t | S ∪ t) is exactly that share where p is softmax(o): over text and draws the gradient's expectation is zero at the true
    model for any number of samples (as of Ma & Collins' ranking estimate, 2018), and it grows into the full gradient as samples do.

    proposal: "log-uniform", q_w ∝ log((r + 2)/(r + 1)) of rank r = 0 …, by `counts` or, without them, by id; "unigram", q_w ∝ count^power,
    a word never seen counting 1. Draws are of torch's global generator.
    """

    proposal: Tensor

    def __init__(
        self,
        *,
        size: int,
        vocabulary_size: int,
        counts: Sequence[int] | np.ndarray | None = None,
        samples: int = 1024,
        proposal: str = "log-uniform",
        power: float = 1.0,
        bias: bool = True,
        std: float | None = None,
    ) -> None:
        super().__init__(size=size, vocabulary_size=vocabulary_size, bias=bias, std=std)
        if samples < 1:
            raise ValueError(f"{samples=} must be at least 1")
        self.samples = samples
        # As integers, of 2⁶² together: a model that is cast to a narrower type keeps them.
        self.register_buffer("proposal", torch.from_numpy(_proposal(proposal, counts, vocabulary_size, power)))

    def chances(self, words: Tensor | slice = slice(None)) -> Tensor:
        """π of these words, float64: how likely each is in the set that is drawn."""
        return -torch.expm1(self.samples * torch.log1p(-self.proposal[words].double() / 2.0**62))

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        if not self.training:
            return super().forward(hidden, targets)
        self._check(hidden, targets)
        chances = self.chances()
        drawn = (torch.rand(len(chances), dtype=torch.float64, device=chances.device) < chances).nonzero()[:, 0]
        return self.estimate(hidden, targets, drawn)

    def estimate(self, hidden: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
        """The estimate of −log p(target | hidden) from this set of distinct words (S,): (N,)."""
        words = torch.cat([targets, drawn])
        rows = F.embedding(words, self.weight)
        own, others = rows[: len(targets)], rows[len(targets) :]
        target, scores = _widened((hidden * own).sum(-1)), _widened(hidden @ others.mT)  # (N,), (N, S)
        shift = -self.chances(words).log().to(target.dtype)
        if self.bias is not None:
            shift = shift + self.bias[words]
        target, scores = target + shift[: len(targets)], scores + shift[len(targets) :]
        scores = scores.masked_fill(drawn == targets[:, None], -math.inf)
        return torch.cat([target[:, None], scores], 1).logsumexp(1) - target


class HierarchicalOutput(Output):
    """P(w | h) = Π over the path to w in Huffman's tree of σ(γ_n·h + b_n) where it goes left, 1 − that where it goes right (E43, E44).

    counts (V,): of the words; without them all count the same. A word costs as many products as its path has nodes,
    on the average less than a bit more than the words' entropy.
    """

    counts: Tensor
    starts: Tensor
    nodes: Tensor
    signs: Tensor
    above: Tensor
    choices: Tensor
    sides: Tensor
    leaves: Tensor

    def __init__(self, *, size: int, vocabulary_size: int, counts: Sequence[int] | np.ndarray | None = None, bias: bool = True) -> None:
        super().__init__(size=size, vocabulary_size=vocabulary_size)
        given = np.ones(vocabulary_size, np.int64) if counts is None else _counts(counts, vocabulary_size)
        self.weight = nn.Parameter(torch.zeros(max(vocabulary_size - 1, 1), size))  # zero: all choices open, as word2vec begins
        self.bias = nn.Parameter(torch.zeros(max(vocabulary_size - 1, 1))) if bias else None
        self.register_buffer("counts", torch.from_numpy(given.copy()))
        self._plant()
        self.register_load_state_dict_post_hook(lambda module, _: module._plant())  # type: ignore[no-untyped-call]

    def _plant(self) -> None:
        """The tree of `counts`, as paths to each word, and level by level for `log_probabilities`."""
        from weft.huffman import huffman_paths  # numba takes half a second to start

        starts, nodes, bits = huffman_paths(self.counts.cpu().numpy())
        signs = 1 - 2 * bits.astype(np.int64)  # left, bit 0: σ(s); right: σ(−s)
        above, steps, leaves, self.levels = _levels(starts, nodes)
        found = {"starts": starts, "nodes": nodes, "signs": signs}
        found |= {"above": above, "choices": nodes[steps], "sides": signs[steps], "leaves": leaves}
        for name, array in found.items():
            self.register_buffer(name, torch.from_numpy(array.astype(np.int64)).to(self.counts.device), persistent=False)

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        self._check(hidden, targets)
        starts = self.starts[targets]
        lengths = self.starts[targets + 1] - starts
        rows = torch.repeat_interleave(lengths)  # (P,) the vector that each step of all paths belongs to
        steps = torch.arange(len(rows), device=rows.device) + (starts + lengths - lengths.cumsum(0))[rows]
        nodes = self.nodes[steps]
        scores = _widened((F.embedding(nodes, self.weight) * hidden.index_select(0, rows)).sum(-1))
        if self.bias is not None:
            scores = scores + self.bias[nodes]
        return scores.new_zeros(len(hidden)).index_add(0, rows, -F.logsigmoid(self.signs[steps] * scores))

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        self._check(hidden)
        scores = _widened(F.linear(hidden, self.weight, self.bias))  # (N, V − 1)
        level = scores.new_zeros(len(hidden), 1)  # the root
        found = [level]
        for above, choices, sides in zip(*(torch.split(part, self.levels) for part in (self.above, self.choices, self.sides)), strict=True):
            level = level.index_select(1, above) + F.logsigmoid(sides * scores.index_select(1, choices))
            found.append(level)
        return torch.cat(found, 1).index_select(1, self.leaves)


def _levels(starts: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Paths → the tree breadth first, without the root: above, each place's parent within the level before; the step of the paths that
    leads there; each word's place, the root counted; the size of each level.
    """
    lengths = np.diff(starts)
    words = np.repeat(np.arange(len(lengths)), lengths)
    depth = np.arange(len(nodes)) - starts[words]
    child = np.where(depth + 1 == lengths[words], words, len(lengths) + np.roll(nodes, -1).astype(np.int64))  # inner nodes after the words
    _, steps = np.unique(child, return_index=True)  # many paths go the same way
    steps = steps[np.argsort(depth[steps], kind="stable")]
    places = np.zeros(2 * len(lengths) - 1, np.int64)  # the root's is 0
    places[child[steps]] = np.arange(1, len(steps) + 1)
    levels = np.bincount(depth[steps]) if len(steps) else np.zeros(0, np.int64)
    begins = np.concatenate([[0, 1], 1 + np.cumsum(levels)])  # of each level, the root's first
    above = places[len(lengths) + nodes[steps]] - begins[depth[steps]]
    return above, steps, places[: len(lengths)], levels.tolist()


OUTPUTS: dict[str, type[Output]] = {
    "full": FullOutput,
    "tied": TiedOutput,
    "adaptive": AdaptiveOutput,
    "sampled": SampledOutput,
    "hierarchical": HierarchicalOutput,
}
COUNTED = ("adaptive", "sampled", "hierarchical")


def make_output(
    name: str,
    *,
    size: int,
    vocabulary_size: int,
    weight: Tensor | None = None,
    counts: Sequence[int] | np.ndarray | None = None,
    **options: Any,
) -> Output:
    """The output layer of that name. weight: the embeddings, which "tied" needs; counts (V,): of the words, for those that rank them.

    Both are ignored by layers that have no use for them; a layer made without counts, to be filled from a saved one, gets them from there.
    ValueError lists the names there are.
    """
    if name not in OUTPUTS:
        raise ValueError(f"no output layer {name!r}; there are: {', '.join(OUTPUTS)}")
    if name == "tied":
        if weight is None:
            raise ValueError("tied output weights are the embeddings': give weight")
        options["weight"] = weight
    if name in COUNTED:
        options["counts"] = counts
    return OUTPUTS[name](size=size, vocabulary_size=vocabulary_size, **options)


def _widened(scores: Tensor) -> Tensor:
    # Exponentials and long sums need more than half precision.
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores


def _counts(counts: Sequence[int] | np.ndarray, vocabulary_size: int) -> np.ndarray:
    found = np.asarray(counts, np.int64)
    if found.shape != (vocabulary_size,) or (found < 0).any():
        raise ValueError(f"counts are {vocabulary_size} numbers, none negative, got shape {found.shape}")
    return found


def _ranked(counts: Sequence[int] | np.ndarray | None, vocabulary_size: int) -> np.ndarray:
    """The words, the most frequent first: (V,) int64."""
    if counts is None:
        return np.arange(vocabulary_size)
    return np.argsort(-_counts(counts, vocabulary_size), kind="stable")


def _proposal(name: str, counts: Sequence[int] | np.ndarray | None, vocabulary_size: int, power: float) -> np.ndarray:
    """q (V,) in units of 2⁻⁶²."""
    if name == "log-uniform":
        share = np.empty(vocabulary_size)
        share[_ranked(counts, vocabulary_size)] = np.log1p(1.0 / np.arange(1, vocabulary_size + 1))
    elif name == "unigram":
        given = np.ones(vocabulary_size) if counts is None else _counts(counts, vocabulary_size).clip(min=1)
        share = given.astype(np.float64) ** power
    else:
        raise ValueError(f"proposal={name!r} must be 'log-uniform' or 'unigram'")
    return (share / share.sum() * 2.0**62).astype(np.int64)
